//! Programs of others, which may hang, and errors of others, which go into a cell of the table.

use std::{
    process::{Command, Output, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Longer than any copy here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
/// How a reason begins.
pub(crate) const FAILED: &str = "did not work";
/// Characters of a reason that a table has room for.
const ROOM: usize = 100;

/// Runs a program that has to succeed, and that is killed when it takes too long.
pub(crate) fn run(command: &mut Command) -> Result<Output> {
    let output = run_within(command, LIMIT)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{:?}: {}: {said}", command.get_program(), output.status);
    Ok(output)
}

fn run_within(command: &mut Command, limit: Duration) -> Result<Output> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = child.spawn()?;
    // The kernel's handle: a number may be somebody else's by the time that it is killed.
    let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    let (done, ended) = channel::<()>();
    let watch = thread::spawn(move || {
        let late = ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
        late && pidfd_send_signal(handle, Signal::KILL).is_ok()
    });
    let output = child.wait_with_output()?;
    drop(done);
    ensure!(!watch.join().unwrap_or(true), "it was killed after {limit:?}");
    Ok(output)
}

/// What a table says in place of the figure of one that failed.
pub(crate) fn reason(error: &anyhow::Error) -> String {
    let text = format!("{error:#}").replace('|', "/");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = text.chars().take(ROOM).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{FAILED}: {short}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_killed() {
        let hangs = run_within(Command::new("sleep").arg("3600"), Duration::from_millis(1));
        assert!(hangs.unwrap_err().to_string().contains("killed"));
        let output = run(Command::new("echo").arg("there")).unwrap();
        assert_eq!(output.stdout, b"there\n");
        assert!(run(&mut Command::new("false")).is_err());
    }

    #[test]
    fn a_reason_fits_a_cell() {
        let error = anyhow::anyhow!("one | two\n  three").context("outer");
        assert_eq!(reason(&error), "did not work: outer: one / two three");
        let long = reason(&anyhow::anyhow!("x".repeat(500)));
        assert_eq!(long, format!("did not work: {}…", "x".repeat(ROOM)));
    }
}
