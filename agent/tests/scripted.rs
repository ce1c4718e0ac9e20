//! The subcommands of the real binary against an agent that does what the test says.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "scripted/agent.rs"]
mod agent;
#[path = "scripted/attach.rs"]
mod attach;
#[path = "scripted/exec.rs"]
mod exec;
#[path = "scripted/logs.rs"]
mod logs;
#[path = "scripted/terminal.rs"]
mod terminal;

use std::{
    io::Read,
    process::{Child, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use self::agent::within;

/// Starts a program whose output is kept, and that has no input.
fn start(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Waits until it has written this on its standard output, and takes it from there.
async fn written(child: &mut Child, expected: &'static str) {
    let mut stdout = child.stdout.take().unwrap();
    let reading = tokio::task::spawn_blocking(move || {
        let mut written = vec![0; expected.len()];
        stdout.read_exact(&mut written).map(|()| (written, stdout))
    });
    let (written, stdout) = within(expected, reading).await.unwrap().unwrap();
    assert_eq!(text(&written), expected);
    child.stdout = Some(stdout);
}

/// Waits for its end.
async fn ended(child: Child) -> Output {
    let waiting = tokio::task::spawn_blocking(|| child.wait_with_output());
    within("end", waiting).await.unwrap().unwrap()
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
