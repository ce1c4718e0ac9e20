//! A place in the output of a command, from which a client reads at its own pace. It holds nothing
//! but offsets: a reader that stops costs nobody anything, and finds a stated gap when it goes on too
//! late.

use std::{io, sync::Arc};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    output::{Stream, pace::Seat, ring::Piece},
    pipe::READ_SIZE,
    process::{Process, State},
};

/// What comes next.
#[derive(Debug)]
pub enum Item {
    /// Bytes of a stream.
    Data {
        /// Which.
        stream: Stream,
        /// Where they begin.
        offset: u64,
        /// The bytes, at least one.
        data: Bytes,
    },
    /// Bytes that are kept no more.
    Gap {
        /// Of which stream.
        stream: Stream,
        /// The first that is missing.
        from: u64,
        /// The first that is there.
        to: u64,
    },
    /// The last item: the state in which the reader was left, and all output before it was read.
    End(State),
}

/// Where to begin, and whether to wait for more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct From {
    /// Offset in standard output.
    pub stdout: u64,
    /// Offset in standard error.
    pub stderr: u64,
}

/// A reader of both streams.
#[derive(Debug)]
pub struct Reader {
    process: Arc<Process>,
    changes: watch::Receiver<State>,
    cursors: [Cursor; 2],
    /// What to go by for a reader that does not follow: the state when it came.
    snapshot: Option<State>,
    /// Which stream to ask first, so that a busy one does not starve the other.
    turn: usize,
    seat: Option<Seat>,
    finished: bool,
}

#[derive(Debug)]
struct Cursor {
    stream: Stream,
    position: u64,
    /// Not to be read beyond.
    until: u64,
}

impl Reader {
    /// A reader that goes on until the end of the command.
    pub fn following(process: Arc<Process>, from: From) -> Self {
        Self::new(process, from, true)
    }

    /// A reader of what is there now.
    pub fn of_now(process: Arc<Process>, from: From) -> Self {
        Self::new(process, from, false)
    }

    fn new(process: Arc<Process>, from: From, follow: bool) -> Self {
        let output = process.output();
        let changes = output.changes();
        // The state first: of a command that had ended, all that there is is read.
        let snapshot = (!follow).then(|| output.state());
        let cursor = |stream, position| {
            let until = if follow { u64::MAX } else { output.written(stream) };
            Cursor { stream, position, until }
        };
        let cursors = [cursor(Stream::Stdout, from.stdout), cursor(Stream::Stderr, from.stderr)];
        Self { process, changes, cursors, snapshot, turn: 0, seat: None, finished: false }
    }

    /// Makes a command with backpressure wait for this reader.
    #[must_use]
    pub fn seated(mut self) -> Self {
        let [out, err] = &self.cursors;
        self.seat = self.process.output().take_seat([out.position, err.position]);
        self
    }

    /// The command that is read.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// What comes next; nothing after the end. Safe to cancel.
    ///
    /// # Errors
    /// When a spool cannot be read.
    pub async fn next(&mut self) -> io::Result<Option<Item>> {
        while !self.finished {
            // Before the rings: what is written after this wakes the reader again.
            let now = self.changes.borrow_and_update().clone();
            for _ in 0..self.cursors.len() {
                self.turn = (self.turn + 1) % self.cursors.len();
                if let Some(item) = self.read_turn().await? {
                    return Ok(Some(item));
                }
            }
            let state = self.snapshot.clone().unwrap_or(now);
            if self.snapshot.is_some() || !matches!(state, State::Running) {
                self.finished = true;
                return Ok(Some(Item::End(state)));
            }
            if self.changes.changed().await.is_err() {
                break;
            }
        }
        Ok(None)
    }

    async fn read_turn(&mut self) -> io::Result<Option<Item>> {
        let Some(cursor) = self.cursors.get_mut(self.turn) else { return Ok(None) };
        let item = cursor.read(&self.process).await?;
        if let Some(seat) = self.seat.as_ref().filter(|_| item.is_some()) {
            seat.advance(cursor.stream, cursor.position);
        }
        Ok(item)
    }
}

impl Cursor {
    async fn read(&mut self, process: &Process) -> io::Result<Option<Item>> {
        let Self { stream, position: from, until } = *self;
        if from >= until {
            return Ok(None);
        }
        let room = usize::try_from(until - from).unwrap_or(usize::MAX).min(READ_SIZE);
        Ok(match process.output().read(stream, from, room).await? {
            Piece::Nothing => None,
            Piece::Gap { to } => {
                self.position = to;
                Some(Item::Gap { stream, from, to })
            }
            Piece::Data(data) => {
                self.position += data.len() as u64;
                Some(Item::Data { stream, offset: from, data })
            }
        })
    }
}
