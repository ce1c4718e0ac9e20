//! One command: what is known of it, its output, and what can be done to it. Its own task
//! ([`super::task`]) owns the process; everybody else holds one of these.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use rustix::process::{Pid, Signal};
use tokio::sync::mpsc;
use workspace_common::drain::Drain;

use super::{
    limits::Verdicts,
    output::Output,
    reap::Reaper,
    stop::Stop,
    task::{Ending, Outcome},
    terminal::{END_OF_INPUT, Size, Terminal},
    tree::{Sweep, Tree},
};

/// How long a command that ends with its last client waits for the first: whoever started it has the
/// id by then, and its connection, or is gone.
const FIRST_CLIENT: Duration = Duration::from_secs(10);

/// The longest id that a client may choose.
const MAX_ID: usize = 64;

/// An id that a client chose: 1 to 64 of `A-Z a-z 0-9 . _ -`, but not `.` or `..`, which no URL can
/// name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenId(pub(super) String);

impl ChosenId {
    /// Takes text that can be an id.
    pub fn parse(text: String) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let good = (1..=MAX_ID).contains(&text.len()) && text.bytes().all(allowed);
        (good && !matches!(text.as_str(), "." | "..")).then_some(Self(text))
    }
}

/// Whether a command runs.
#[derive(Debug, Clone)]
pub enum State {
    /// Its leader is alive, or its output is being collected.
    Running,
    /// It has ended, and all of its output has been taken.
    Ended(Outcome),
    /// The task that owned it failed; nothing is known of its end.
    Lost,
}

/// What becomes of a command whose last attached client has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDisconnect {
    /// Its whole tree is ended.
    Kill,
    /// It runs on.
    Keep,
}

/// A command of the table.
#[derive(Debug)]
pub struct Process {
    /// Its id.
    pub id: Arc<str>,
    /// Process id of its leader.
    pub pid: i32,
    /// The first word of the command.
    pub argv0: String,
    /// When it was started.
    pub started_at: SystemTime,
    /// What came of its limits and the like.
    pub verdicts: Verdicts,
    pub(super) digest: Option<[u8; 32]>,
    pub(super) ending: Ending,
    pub(super) on_disconnect: OnDisconnect,
    pub(super) attached: AtomicUsize,
    /// Its leader has been collected, and its number may be another's.
    pub(super) leader_gone: AtomicBool,
    pub(super) tree: Tree,
    pub(super) stop: Stop,
    pub(super) drain: Drain,
    pub(super) reaper: Reaper,
    pub(super) has_terminal: bool,
    pub(super) terminal: Mutex<Option<Terminal>>,
    pub(super) input: Mutex<Option<mpsc::Sender<Bytes>>>,
    pub(super) output: Arc<Output>,
}

/// A client that is attached to a command. Dropping it says that the client has gone.
#[derive(Debug)]
pub struct Attachment(Arc<Process>);

impl Drop for Attachment {
    fn drop(&mut self) {
        let Self(process) = self;
        let last = process.attached.fetch_sub(1, Ordering::AcqRel) == 1;
        if last && process.on_disconnect == OnDisconnect::Kill {
            process.stop.ask(process.ending.kill_grace);
        }
    }
}

impl Process {
    /// Whether it was started by a request of this digest.
    pub(super) fn is_of(&self, digest: &[u8; 32]) -> bool {
        self.digest.as_ref() == Some(digest)
    }

    /// Its output, and its state.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// Whether it runs.
    pub fn state(&self) -> State {
        self.output.state()
    }

    /// Notes that a client is there, until the attachment is dropped.
    pub fn attach(self: &Arc<Self>) -> Attachment {
        self.attached.fetch_add(1, Ordering::AcqRel);
        Attachment(self.clone())
    }

    /// Sees to a command that has been started by somebody who is not attached, and is to end with its
    /// last client: it ends, too, when none has come in time.
    pub(super) fn await_first_client(self: &Arc<Self>) {
        if self.on_disconnect == OnDisconnect::Keep {
            return;
        }
        let process = self.clone();
        self.drain.spawn(async move {
            tokio::select! {
                _ended = process.ended() => return,
                () = process.drain.started() => return,
                () = tokio::time::sleep(FIRST_CLIENT) => {}
            }
            if process.attached() == 0 && !process.stop.is_asked() {
                tracing::info!(id = &*process.id, "no client has attached: ending the command");
            }
            // As a client that goes at once: it is the last one unless another is there by now.
            drop(process.attach());
        });
    }

    /// The command is not to wait for a first reader.
    pub fn run_freely(&self) {
        self.output.run_freely();
    }

    /// How many clients are attached.
    pub fn attached(&self) -> usize {
        self.attached.load(Ordering::Acquire)
    }

    /// Whether it was started with a terminal.
    pub fn has_terminal(&self) -> bool {
        self.has_terminal
    }

    /// Changes the size of its terminal, and says whether there is one: it goes with the command.
    ///
    /// # Errors
    /// As ioctl(2).
    pub fn resize(&self, size: Size) -> std::io::Result<bool> {
        let terminal = self.terminal().clone();
        terminal.map_or(Ok(false), |terminal| terminal.resize(size).map(|()| true))
    }

    fn terminal(&self) -> MutexGuard<'_, Option<Terminal>> {
        self.terminal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn input(&self) -> MutexGuard<'_, Option<mpsc::Sender<Bytes>>> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where to send its standard input, if that is open. Dropping every sender does not close it,
    /// [`Process::close_stdin`] does.
    pub fn stdin(&self) -> Option<mpsc::Sender<Bytes>> {
        self.input().clone()
    }

    /// Lets it see the end of its input once what is queued has been read. A terminal's user types
    /// that, and may go on typing.
    pub async fn close_stdin(&self) {
        if self.has_terminal {
            let Some(sender) = self.stdin() else { return };
            // A command that has ended needs no end of its input.
            sender.send(Bytes::from_static(END_OF_INPUT)).await.ok();
        } else {
            self.input().take();
        }
    }

    /// Notes its end, after everything else has been noted.
    pub(super) fn settle(&self, state: State) {
        self.input().take();
        self.terminal().take();
        self.output.settle(state);
    }

    /// Resolves to how it ended: [`State::Ended`] or [`State::Lost`]. Safe to cancel.
    pub async fn ended(&self) -> State {
        let mut changes = self.output.changes();
        let ended = changes.wait_for(|state| !matches!(state, State::Running)).await;
        ended.map_or(State::Lost, |state| state.clone())
    }

    /// Signals its whole tree, whatever is left of it, and says how many processes there were.
    pub async fn signal_tree(&self, signal: Signal) -> usize {
        self.tree.signal(signal).await
    }

    /// Signals its leader, and says whether it was there.
    pub fn signal_leader(&self, signal: Signal) -> bool {
        let there = !self.leader_gone.load(Ordering::Acquire);
        there && Pid::from_raw(self.pid).is_some_and(|pid| self.reaper.signal(pid, signal))
    }

    /// Ends its whole tree, whatever is left of it: TERM, KILL after `grace` (its own, if none is
    /// given), and resolves when nobody is left. Dropping the future does not stop that.
    ///
    /// # Errors
    /// When the task that does it has failed.
    pub async fn end(
        self: &Arc<Self>,
        grace: Option<Duration>,
    ) -> Result<Sweep, tokio::task::JoinError> {
        let grace = grace.unwrap_or(self.ending.kill_grace);
        let process = self.clone();
        self.drain.spawn(async move { process.end_within(grace).await }).await
    }

    async fn end_within(&self, grace: Duration) -> Sweep {
        let mut killed = 0;
        if matches!(self.state(), State::Running) {
            self.stop.ask(grace);
            if let State::Ended(outcome) = self.ended().await {
                killed = outcome.killed;
            }
        }
        // It may have ended by itself and left others.
        let patience = async {
            tokio::select! {
                () = tokio::time::sleep(grace) => {}
                () = self.drain.cut() => {}
            }
        };
        let rest = self.tree.end(patience).await;
        Sweep { killed: killed + rest.killed, survivors: rest.survivors }
    }
}
