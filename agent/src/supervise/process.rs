//! One detached command: what is known of it, its output, and what can be done to it.
//!
//! Its own task writes into [`Ring`]s and never waits for a reader; a reader asks the rings at its
//! own pace and is woken when something has changed.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use rustix::process::{Pid, Signal};
use tokio::sync::watch;
use workspace_common::drain::Drain;

use super::{
    Engine, Refusal, Request, Running,
    reap::Reaper,
    ring::{Piece, Ring},
    stop::Stop,
    task::{Outcome, OutputSink, Outputs},
    tree::{Sweep, Tree},
};

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

/// A command to run detached.
#[derive(Debug)]
pub struct Detached {
    /// The id, if the client chose one, and a digest of everything that it asked for: a repeat has
    /// the same.
    pub id: Option<(ChosenId, [u8; 32])>,
    /// The command.
    pub command: Request,
    /// How many bytes of each stream are kept.
    pub capacity: usize,
}

/// Whether a command runs.
#[derive(Debug, Clone, Copy)]
pub enum State {
    /// Its leader is alive, or its output is being collected.
    Running,
    /// It has ended, and all of its output is in the rings.
    Ended(Outcome),
    /// The task that owned it failed; nothing is known of its end.
    Lost,
}

/// One of the two streams of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A command of the table.
#[derive(Debug)]
pub struct Process {
    /// Its id.
    pub id: String,
    /// Process id of its leader.
    pub pid: i32,
    /// The first word of the command.
    pub argv0: String,
    /// When it was started.
    pub started_at: SystemTime,
    digest: Option<[u8; 32]>,
    kill_grace: Duration,
    tree: Tree,
    stop: Stop,
    drain: Drain,
    reaper: Reaper,
    output: Arc<Output>,
}

/// What the command's own task writes to and readers read from.
#[derive(Debug)]
struct Output {
    stdout: Mutex<Ring>,
    stderr: Mutex<Ring>,
    /// Wakes readers at every change, of the rings as well.
    state: watch::Sender<State>,
}

impl Output {
    fn new(capacity: usize) -> Self {
        let ring = || Mutex::new(Ring::new(capacity));
        Self { stdout: ring(), stderr: ring(), state: watch::Sender::new(State::Running) }
    }

    fn ring(&self, stream: Stream) -> MutexGuard<'_, Ring> {
        let ring = match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        };
        ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn size(&self) -> usize {
        self.ring(Stream::Stdout).len() + self.ring(Stream::Stderr).len()
    }
}

/// Writes one stream into its ring. It never waits.
#[derive(Debug)]
pub(super) struct Recorder {
    output: Arc<Output>,
    stream: Stream,
}

impl OutputSink for Recorder {
    async fn write(&mut self, data: Bytes) {
        self.output.ring(self.stream).push(&data);
        self.output.state.send_modify(|_state| {});
    }

    async fn finish(&mut self) {}
}

impl Process {
    /// Starts a command.
    pub(super) fn launch(
        engine: &Engine,
        id: Option<(String, [u8; 32])>,
        detached: Detached,
    ) -> Result<(Self, Running<Recorder>), Refusal> {
        let (id, digest) = id.unzip();
        let output = Arc::new(Output::new(detached.capacity));
        let recorder = |stream| Recorder { output: output.clone(), stream };
        let outputs =
            Outputs { stdout: recorder(Stream::Stdout), stderr: recorder(Stream::Stderr) };
        let argv0 = detached.command.spec.argv.first();
        let argv0 = argv0.map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
        let (kill_grace, started_at) = (detached.command.kill_grace, SystemTime::now());
        let running = engine.start_as(id, detached.command, outputs)?;
        let process = Self {
            id: running.id.clone(),
            pid: running.pid,
            argv0,
            started_at,
            digest,
            kill_grace,
            tree: running.outliving_tree(),
            stop: running.guard.stop.clone(),
            drain: engine.drain.clone(),
            reaper: engine.reaper.clone(),
            output,
        };
        Ok((process, running))
    }

    /// Whether it was started by a request of this digest.
    pub(super) fn is_of(&self, digest: &[u8; 32]) -> bool {
        self.digest.as_ref() == Some(digest)
    }

    /// Notes its end, after everything else has been noted.
    pub(super) fn settle(&self, state: State) {
        self.output.state.send_replace(state);
    }

    /// How many bytes of output are kept.
    pub(super) fn kept_bytes(&self) -> usize {
        self.output.size()
    }

    /// Whether it runs.
    pub fn state(&self) -> State {
        *self.output.state.borrow()
    }

    /// Says when its state or its output has changed.
    pub fn changes(&self) -> watch::Receiver<State> {
        self.output.state.subscribe()
    }

    /// How many bytes it has written to a stream.
    pub fn written(&self, stream: Stream) -> u64 {
        self.output.ring(stream).end()
    }

    /// At most `limit` bytes of a stream from an offset on.
    pub fn read(&self, stream: Stream, from: u64, limit: usize) -> Piece {
        self.output.ring(stream).read(from, limit)
    }

    /// Signals its whole tree, whatever is left of it, and says how many processes there were.
    pub fn signal_tree(&self, signal: Signal) -> usize {
        self.tree.signal(signal)
    }

    /// Signals its leader, and says whether it was there.
    pub fn signal_leader(&self, signal: Signal) -> bool {
        let running = matches!(self.state(), State::Running);
        running && Pid::from_raw(self.pid).is_some_and(|pid| self.reaper.signal(pid, signal))
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
        let grace = grace.unwrap_or(self.kill_grace);
        let process = self.clone();
        self.drain.spawn(async move { process.end_within(grace).await }).await
    }

    async fn end_within(&self, grace: Duration) -> Sweep {
        let mut killed = 0;
        if matches!(self.state(), State::Running) {
            self.stop.ask(grace);
            let mut changes = self.changes();
            let ended = changes.wait_for(|state| !matches!(state, State::Running)).await;
            if let Ok(State::Ended(outcome)) = ended.as_deref() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_recorder_wakes_readers_and_never_waits_for_them() {
        let output = Arc::new(Output::new(4));
        let mut reader = output.state.subscribe();
        let mut recorder = Recorder { output: output.clone(), stream: Stream::Stderr };
        for _ in 0..3 {
            recorder.write("abc".into()).await;
        }
        reader.changed().await.unwrap();
        assert_eq!(output.ring(Stream::Stderr).read(5, 9), Piece::Data("cabc".into()));
        assert_eq!(output.ring(Stream::Stdout).end(), 0);
        assert_eq!(output.size(), 4);
    }
}
