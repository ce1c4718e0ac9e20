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
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;

use crate::audit::batch::Batch;
use crate::audit::queue::{Place, Queue};

/// Lines that wait to be written; about 4 MiB at the usual 500 bytes a line.
pub const PLACES: usize = 8192;

/// How long the thread lets lines gather before it writes them, unless somebody waits for it. A line that finds it asleep costs the
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

/// There is no place, or the lines before could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log has no room")]
pub struct NoRoom;

/// A handle to the writing thread, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct AuditWriter {
    queue: Arc<Open>,
    lines: Lines,
    lost: IntCounter,
}

/// Closes the queue when nobody is left who could put anything in.
#[derive(Debug)]
struct Open(Arc<Queue>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
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
        let queue = Arc::new(Queue::new(PLACES));
        let (emptied, batch) = (Arc::clone(&queue), Batch::new(out, lost.clone()));
        thread::Builder::new().name("audit".into()).spawn(move || run(&emptied, batch))?;
        Ok(Self { queue: Arc::new(Open(queue)), lines, lost })
    }

    /// Takes a place for the line of a request that is about to be served, where lines are required.
    ///
    /// # Errors
    /// [`NoRoom`]: the request must not be served.
    pub fn begin(&self) -> Result<Option<Place>, NoRoom> {
        let queue = &self.queue.0;
        match self.lines {
            Lines::Wanted => Ok(None),
            Lines::Required if queue.is_failing() => Err(NoRoom),
            Lines::Required => Queue::place(queue).map(Some).ok_or(NoRoom),
        }
    }

    /// Queues a line, at its own place or at one that is free now. Without one it is lost. Never
    /// waits for the log.
    pub fn write(&self, line: &[u8], place: Option<Place>) {
        let place = place.or_else(|| Queue::place(&self.queue.0));
        match place {
            Some(place) => place.fill(line),
            None => self.lost.inc(),
        }
    }

    /// Waits until the lines queued so far are written, but not for ever. Blocks; for the end of the
    /// process and for tests.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        self.queue.0.ask_for_flush(done);
        if wait.recv_timeout(CLOSE_PATIENCE).is_err() {
            tracing::warn!("the audit log's reader is stuck; lines are lost");
        }
    }
}

fn run(queue: &Queue, mut batch: Batch<impl Write>) {
    while queue.wait(GATHER) {
        let taken = queue.take();
        let outcome = batch.write(&taken.text);
        queue.written(taken, outcome);
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
