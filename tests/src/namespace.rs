//! A network of one's own: the test program starts itself again inside a new user and network
//! namespace in which every address of the world is this machine.
//!
//! There, names may resolve to real public addresses, ports may be the real ones, and whatever the
//! proxy dials ends at a scripted server, which sees the address that was dialled.

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

/// Tells the second start that it is one.
const INSIDE: &str = "WORKSPACE_TESTS_INSIDE_NAMESPACE";

/// The namespaces; that of processes lets nothing outlive a test that is killed.
const UNSHARE: [&str; 7] =
    ["--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--"];

/// Addresses that say at once that they cannot be reached.
pub const UNREACHABLE: &str = "45.2.0.0/24";
/// Addresses from which nothing ever comes back.
pub const SILENT: &str = "45.3.0.0/24";

/// Continues inside a namespace: does not return on the first start, unless it fails.
///
/// # Errors
/// When there is no such namespace to be had on this machine.
pub fn enter() -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return arrange();
    }
    let can = Command::new("unshare")
        .args(UNSHARE)
        .args(["ip", "-V"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    ensure!(
        can.is_ok_and(|status| status.success()),
        "no user and network namespace, or no ip program, on this machine"
    );
    let error = Command::new("unshare")
        .args(UNSHARE)
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(error).context("cannot start again inside a namespace")
}

/// Makes every address a local one, apart from two ranges.
fn arrange() -> Result<()> {
    ip("link set lo up")?;
    // In the main table, so that the narrower routes below win.
    ip("route add local 0.0.0.0/0 dev lo table main")?;
    ip("-6 route add local ::/0 dev lo table main")?;
    ip(&format!("route add unreachable {UNREACHABLE}"))?;
    // What comes in over lo for an address that is not local is dropped without a word.
    ip(&format!("route add {SILENT} dev lo"))
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {said}");
    Ok(())
}
