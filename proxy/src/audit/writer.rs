//! Writes audit lines from one thread of its own, so that a slow reader of the log never slows a
//! request down.
//!
//! Every line takes a place among a bounded number until it is written. Usually it takes it at the end
//! of its request, and without one it is counted and lost. Where lines are required, the place is
//! taken before the request is served, and without one the request is refused: then no request is
//! served whose line would find no room.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::audit::batch::Batch;

/// Lines that wait to be written; about 4 MiB at the usual 500 bytes a line.
pub const PLACES: usize = 8192;

/// How long the thread lets lines gather before it writes them. A line that finds it asleep costs the
/// request a system call to wake it, and all that follow in this time cost none.
const GATHER: Duration = Duration::from_millis(10);

/// How long the end of the process waits for the log's reader.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// What becomes of requests whose lines cannot be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lines {
    /// They are served; their lines are counted and lost.
    #[default]
    Wanted,
    /// They are refused.
    Required,
}

/// The right to have one line written.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// There is no place, or the lines before could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log has no room")]
pub struct NoRoom;

pub(super) enum Message {
    Line(String, Place),
    /// Write out everything before this, then answer.
    Flush(SyncSender<()>),
}

/// A handle to the writing thread.
#[derive(Clone, Debug)]
pub struct AuditWriter {
    queue: Sender<Message>,
    places: Arc<Semaphore>,
    failing: Arc<AtomicBool>,
    lines: Lines,
    lost: IntCounter,
}

impl AuditWriter {
    /// Writes to the standard output, or appends to a file. What is lost is counted in `lost`.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread cannot be started.
    pub fn start(file: Option<&Path>, lines: Lines, lost: IntCounter) -> io::Result<Self> {
        match file {
            // Without the line buffer of the standard library: batches are made here.
            None => Self::to(Stdout, lines, lost),
            Some(path) => {
                let file = std::fs::File::options().append(true).create(true).open(path)?;
                Self::to(file, lines, lost)
            }
        }
    }

    /// Writes to any destination.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn to(
        out: impl Write + Send + 'static,
        lines: Lines,
        lost: IntCounter,
    ) -> io::Result<Self> {
        let (queue, messages) = channel();
        let failing = Arc::<AtomicBool>::default();
        let batch = Batch::new(out, Arc::clone(&failing), lost.clone());
        thread::Builder::new().name("audit".into()).spawn(move || run(&messages, batch))?;
        let places = Arc::new(Semaphore::new(PLACES));
        Ok(Self { queue, places, failing, lines, lost })
    }

    /// Takes a place for the line of a request that is about to be served, where lines are required.
    ///
    /// # Errors
    /// [`NoRoom`]: the request must not be served.
    pub fn begin(&self) -> Result<Option<Place>, NoRoom> {
        match self.lines {
            Lines::Wanted => Ok(None),
            Lines::Required if self.failing.load(Ordering::Relaxed) => Err(NoRoom),
            Lines::Required => self.place().map(Some).ok_or(NoRoom),
        }
    }

    fn place(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok().map(|permit| Place { _permit: permit })
    }

    /// Queues a line, at its own place or at one that is free now. Without one it is lost. Never
    /// blocks.
    pub fn write(&self, line: String, place: Option<Place>) {
        let queued = place.or_else(|| self.place()).map(|place| Message::Line(line, place));
        if queued.is_none_or(|message| self.queue.send(message).is_err()) {
            self.lost.inc();
        }
    }

    /// Waits until the lines queued so far are written, but not for ever. Blocks; for the end of the
    /// process and for tests.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        let asked = self.queue.send(Message::Flush(done)).is_ok();
        if !asked || wait.recv_timeout(CLOSE_PATIENCE).is_err() {
            tracing::warn!("the audit log's reader is stuck; lines are lost");
        }
    }
}

fn run(messages: &Receiver<Message>, mut batch: Batch<impl Write>) {
    while let Ok(message) = messages.recv() {
        batch.take(message);
        if !batch.is_awaited() {
            thread::sleep(GATHER);
        }
        while !batch.is_full()
            && let Ok(message) = messages.try_recv()
        {
            batch.take(message);
        }
        batch.write();
    }
}

/// The standard output, unbuffered.
struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stdout(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
