//! The floor of exec: the same command, started by the driver itself.
//!
//! `std::process::Command` calls posix_spawn(3), which is a vfork, with pipes for both outputs, a
//! working directory and an environment; then it reads both pipes to their ends and waits. That holds
//! only in a dynamically linked program: in a static one std cannot find
//! `posix_spawn_file_actions_addchdir_np` and forks instead, which costs more. So the benchmark is
//! linked dynamically, whatever the products are.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};

/// Its name in the table.
pub(crate) const NAME: &str = if cfg!(target_feature = "crt-static") {
    "bare fork (a static driver cannot use posix_spawn)"
} else {
    "bare posix_spawn"
};

/// The variables of a small environment, about what the agent gives.
pub(crate) const ENVIRONMENT: [(&str, &str); 4] =
    [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/"), ("LANG", "C.UTF-8"), ("RUN", "1")];

/// A command with everything that a request to the agent would set.
pub(crate) fn command(argv: &[&str], directory: &Path) -> Command {
    let (program, arguments) = argv.split_first().expect("a program");
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).env_clear().envs(ENVIRONMENT);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command to its end and collects both outputs.
pub(crate) fn run(argv: &[&str], directory: &Path) -> Result<()> {
    let output = command(argv, directory).output()?;
    ensure!(output.status.success(), "{argv:?}: {}", output.status);
    Ok(())
}
