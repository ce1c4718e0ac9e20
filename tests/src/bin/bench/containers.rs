//! Docker, as the other way to run and to copy.

use std::process::Command;

use anyhow::Result;
use workspace_tests::docker::{self, Container};

use crate::bounded;

/// A container that sleeps; or why there is none.
pub(crate) fn sleeping() -> Result<Container, String> {
    if !docker::answers() {
        return Err("no Docker daemon answers".to_owned());
    }
    docker::build_images()?;
    let options = ["--network", "none", "--entrypoint", "sleep", docker::WORKSPACE_BASE, "3600"];
    Container::run(&options).map_err(|error| bounded::reason(&error))
}

/// `docker exec`.
pub(crate) fn exec(container: &Container, argv: &[&str]) -> Result<()> {
    let command = &mut Command::new("docker");
    bounded::run(command.args(["exec", "--user", "0", container.id()]).args(argv)).map(drop)
}

/// `docker cp`.
pub(crate) fn copy(from: &str, to: &str) -> Result<()> {
    bounded::run(Command::new("docker").args(["cp", "--quiet", from, to])).map(drop)
}

/// Removes a directory of a container.
pub(crate) fn remove(container: &Container, path: &str) -> Result<()> {
    exec(container, &["rm", "-rf", path])
}
