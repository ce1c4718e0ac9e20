//! Writes audit lines from one thread of its own, so that a slow reader of the log never slows a
//! request down. What does not fit into the queue is counted and lost.

use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Lines that wait to be written; about 4 MiB at the usual 500 bytes a line.
const QUEUE: usize = 8192;

/// How long the end of the process waits for the log's reader.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
/// How often it looks whether the full queue of a slow reader has room again.
const CLOSE_GLANCE: Duration = Duration::from_millis(10);

enum Message {
    Line(String),
    /// Write out everything before this, then answer.
    Flush(SyncSender<()>),
}

/// A handle to the writing thread.
#[derive(Clone, Debug)]
pub struct AuditWriter {
    queue: SyncSender<Message>,
}

impl AuditWriter {
    /// Writes to the standard output, or appends to a file.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread cannot be started.
    pub fn start(file: Option<&Path>) -> io::Result<Self> {
        match file {
            None => Self::to(io::stdout()),
            Some(path) => Self::to(std::fs::File::options().append(true).create(true).open(path)?),
        }
    }

    /// Writes to any destination.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn to(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        thread::Builder::new().name("audit".into()).spawn(move || run(&lines, out))?;
        Ok(Self { queue })
    }

    /// Queues a line. False when the queue is full and the line is lost. Never blocks.
    #[must_use]
    pub fn write(&self, line: String) -> bool {
        self.queue.try_send(Message::Line(line)).is_ok()
    }

    /// Waits until the lines queued so far are written, but not for ever. Blocks; for the end of the
    /// process and for tests.
    pub fn flush(&self) {
        let deadline = Instant::now() + CLOSE_PATIENCE;
        let left = || deadline.saturating_duration_since(Instant::now());
        let (done, wait) = sync_channel(1);
        let mut message = Message::Flush(done);
        // Sending could block for ever: behind a reader that is stuck the queue is full.
        while let Err(TrySendError::Full(back)) = self.queue.try_send(message) {
            message = back;
            if left().is_zero() {
                break;
            }
            thread::sleep(CLOSE_GLANCE);
        }
        if wait.recv_timeout(left()).is_err() {
            tracing::warn!("the audit log's reader is stuck; lines are lost");
        }
    }
}

fn run(messages: &Receiver<Message>, out: impl Write) {
    let mut out = io::BufWriter::new(out);
    while let Ok(message) = messages.recv() {
        handle(message, &mut out);
        while let Ok(message) = messages.try_recv() {
            handle(message, &mut out);
        }
        report(out.flush());
    }
}

fn handle<W: Write>(message: Message, out: &mut io::BufWriter<W>) {
    match message {
        Message::Line(line) => report(writeln!(out, "{line}")),
        Message::Flush(done) => {
            report(out.flush());
            if done.try_send(()).is_err() {
                tracing::debug!("nobody waits for the flush any more");
            }
        }
    }
}

fn report(result: io::Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "cannot write the audit log");
    }
}
