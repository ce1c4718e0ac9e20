//! The other ways to copy a tree.

use std::{
    fs::File,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use workspace_tests::docker::{self, Container};

/// Runs a program that has to succeed.
pub(super) fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {said}", output.status);
    Ok(())
}

/// `tar | tar`.
pub(super) fn tar_pipe(source: &Path, target: &Path) -> Result<()> {
    std::fs::create_dir_all(target)?;
    let mut pack = Command::new("tar");
    pack.args(["--create", "--file=-", "--directory"]).arg(source).arg(".").stdout(Stdio::piped());
    let mut pack = pack.spawn()?;
    let mut unpack = Command::new("tar");
    unpack.args(["--extract", "--file=-", "--directory"]).arg(target);
    let unpacked = unpack.stdin(pack.stdout.take().context("no pipe")?).status()?;
    ensure!(unpacked.success() && pack.wait()?.success(), "tar failed");
    Ok(())
}

/// A tree as a tar stream, made beforehand.
pub(super) fn packed(source: &Path) -> Result<Vec<u8>> {
    let mut pack = Command::new("tar");
    pack.args(["--create", "--file=-", "--directory"]).arg(source).arg(".");
    let output = pack.stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "tar failed");
    Ok(output.stdout)
}

/// Whether `rsync` is there; otherwise why it is not measured.
pub(super) fn rsync_is_there() -> Result<(), String> {
    let mut version = Command::new("rsync");
    let found = version.arg("--version").stdout(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    found.then_some(()).ok_or_else(|| "not installed".to_owned())
}

/// `rsync --archive`, both ends on this machine.
pub(super) fn rsync(source: &Path, target: &Path) -> Result<()> {
    let mut from = source.as_os_str().to_owned();
    from.push("/");
    run(Command::new("rsync").arg("--archive").arg(from).arg(target))
}

/// `cp`, of one file.
pub(super) fn cp(source: &Path, target: &Path) -> Result<()> {
    run(Command::new("cp").arg(source).arg(target))
}

/// Hashes a file.
pub(super) fn hash(path: &Path) -> Result<()> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    hasher.finalize();
    Ok(())
}

/// A container that sleeps, for `docker cp`; or why there is none.
pub(super) fn container() -> Result<Container, String> {
    if !docker::answers() {
        return Err("no Docker daemon answers".to_owned());
    }
    docker::build_images()?;
    let options = ["--network", "none", "--entrypoint", "sleep", docker::WORKSPACE_BASE, "3600"];
    Container::run(&options).map_err(|error| format!("{error:#}"))
}

/// `docker cp`.
pub(super) fn docker_cp(from: &str, to: &str) -> Result<()> {
    docker::docker(&["cp", "--quiet", from, to]).map(drop)
}

/// Removes a directory of a container.
pub(super) fn remove_in(container: &Container, path: &str) -> Result<()> {
    docker::docker(&["exec", "--user", "0", container.id(), "rm", "-rf", path]).map(drop)
}
