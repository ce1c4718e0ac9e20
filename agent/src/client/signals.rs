//! Signals that this program gets: they are for the command, which runs elsewhere.

use std::{
    future::poll_fn,
    io,
    process::ExitCode,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};
use workspace_common::client::Client;

use super::{
    ending,
    failure::expect_success,
    kill::{self, Scope},
};

/// How long the agent may take to deliver a signal. Whoever sends one wants an end of it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A signal that is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caught {
    name: &'static str,
    number: u8,
    scope: Scope,
}

/// Those that are passed on. The ones that a terminal makes go to everybody, as they do there.
const FORWARDED: [Caught; 6] = [
    Caught { name: "SIGHUP", number: 1, scope: Scope::Leader },
    Caught { name: "SIGINT", number: 2, scope: Scope::Tree },
    Caught { name: "SIGQUIT", number: 3, scope: Scope::Tree },
    Caught { name: "SIGUSR1", number: 10, scope: Scope::Leader },
    Caught { name: "SIGUSR2", number: 12, scope: Scope::Leader },
    Caught { name: "SIGTERM", number: 15, scope: Scope::Leader },
];

impl Caught {
    /// The exit code of a program that this signal ended.
    pub(super) fn exit_code(self) -> ExitCode {
        ExitCode::from(ending::by_signal(self.number))
    }
}

/// Catches them from now on.
#[derive(Debug)]
pub(super) struct Signals {
    caught: Vec<(Caught, Signal)>,
}

impl Signals {
    /// Begins to catch. What was ignored when this program started stays ignored: nohup(1) and a
    /// shell's background jobs mean it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn listen() -> io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = ignored(&status);
        let wanted = FORWARDED.iter().filter(|caught| ignored & bit(caught.number) == 0);
        let listen = |caught: &Caught| {
            Ok((*caught, signal(SignalKind::from_raw(i32::from(caught.number)))?))
        };
        Ok(Self { caught: wanted.map(listen).collect::<io::Result<_>>()? })
    }

    /// The next signal. Safe to cancel.
    pub(super) async fn next(&mut self) -> Caught {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Caught> {
        for (caught, signal) in &mut self.caught {
            if signal.poll_recv(cx).is_ready() {
                return Poll::Ready(*caught);
            }
        }
        Poll::Pending
    }

    /// Passes signals on to the command `id` until one cannot be, which is the answer.
    pub(super) async fn forward(&mut self, client: &Client, id: &str) -> Caught {
        loop {
            let caught = self.next().await;
            if !delivered(client, id, caught).await {
                return caught;
            }
        }
    }
}

async fn delivered(client: &Client, id: &str, caught: Caught) -> bool {
    let request = kill::signal_request(id, caught.name, caught.scope);
    let answer = async { expect_success(client.request_apart(request).await?).await };
    timeout(PATIENCE, answer).await.is_ok_and(|answer| answer.is_ok())
}

fn bit(number: u8) -> u64 {
    1 << (number - 1)
}

/// The signals that a process ignores, by its `/proc/PID/status` (proc(5)).
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_this_machine() {
        for caught in FORWARDED {
            assert_eq!(crate::exec::signal::number(caught.name), Some(caught.number));
        }
    }

    #[test]
    fn ignored_signals_are_read_from_the_status() {
        assert_eq!(ignored("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\tff\n"), 0x1001);
        assert_eq!(ignored("SigIgn:\tnone\n"), 0);
        assert_eq!(ignored(""), 0);
        assert_eq!(bit(1) | bit(13), 0x1001);
    }
}
