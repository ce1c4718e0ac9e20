//! Workspaces on file systems of their own: an agent that starts in a mount namespace where its root
//! is small, or cannot be written.

use std::process::{Command, Stdio};

use anyhow::Result;

use crate::agent::{Agent, Setup};

/// What the root is.
#[derive(Debug, Clone, Copy)]
pub enum RootIs<'a> {
    /// A file system in memory with these options (tmpfs(5)).
    Memory(&'a str),
    /// Its own directory, read-only.
    ReadOnly,
}

/// Whoever is not root needs a user namespace to mount in.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::getuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--mount");
    command
}

/// Whether this machine lets the tests mount.
pub fn possible() -> bool {
    let mut command = unshare();
    command.args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Starts an agent whose root is mounted before.
///
/// # Errors
/// When it cannot be mounted, or the agent does not start.
pub fn start(setup: Setup, root: RootIs<'_>) -> Result<Agent> {
    const SCRIPT: &str = "root=$1; shift; eval \"$1\"; shift; exec \"$@\"";
    let mount = match root {
        RootIs::Memory(options) => format!("mount -t tmpfs -o {options} tmpfs \"$root\""),
        RootIs::ReadOnly => {
            "mount --bind \"$root\" \"$root\" && mount -o remount,bind,ro \"$root\"".to_owned()
        }
    };
    let agent = setup.command();
    let mut command = unshare();
    command.args(["sh", "-ec", SCRIPT, "mounts"]);
    command.arg(setup.directory().join("root")).arg(mount);
    command.arg(agent.get_program()).args(agent.get_args());
    setup.start_as(command)
}
