//! The output of one command: written by its own task, read by anybody at a pace of their own.
//!
//! The task never waits for a reader, unless the command was started with backpressure ([`pace`]).
//! Readers ask by byte offset and are woken when something has changed.

pub mod budget;
pub mod pace;
pub mod record;
pub mod ring;
pub mod spool;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use self::{
    budget::Budget,
    pace::{Pace, Seat},
    record::{Keep, Record},
    ring::Piece,
    spool::{Spool, SpoolDirectory},
};
use super::process::State;

/// Backpressure needs some room between the command and its reader.
const MIN_PACED_CAPACITY: usize = 64 * 1024;

/// One of the two streams of output. A terminal's is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How output is kept.
#[derive(Debug)]
pub struct Keeping {
    /// How much of each stream, in memory.
    pub keep: Keep,
    /// Whether the command waits for its attached readers.
    pub backpressure: bool,
    /// Where both streams are kept whole, if they are.
    pub spool: Option<SpoolDirectory>,
}

/// Both streams, and the state of the command, of which readers are told.
#[derive(Debug)]
pub struct Output {
    stdout: Kept,
    stderr: Kept,
    state: watch::Sender<State>,
    pace: Option<Arc<Pace>>,
}

#[derive(Debug)]
struct Kept {
    record: Mutex<Record>,
    spool: Option<Spool>,
}

impl Kept {
    fn new(keeping: &Keeping, budget: &Budget) -> io::Result<Self> {
        let spool = keeping.spool.as_ref().map(SpoolDirectory::create).transpose()?;
        Ok(Self { record: Mutex::new(Record::new(keeping.keep, budget)), spool })
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        // No code that holds the lock can leave the record half-changed.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Output {
    /// Nothing yet.
    ///
    /// # Errors
    /// When the files of a spool cannot be made.
    pub(super) fn new(keeping: &Keeping, budget: &Budget) -> io::Result<Self> {
        let mut keeping = Keeping { spool: keeping.spool.clone(), ..*keeping };
        if keeping.backpressure {
            keeping.keep.tail = keeping.keep.tail.max(MIN_PACED_CAPACITY);
        }
        Ok(Self {
            stdout: Kept::new(&keeping, budget)?,
            stderr: Kept::new(&keeping, budget)?,
            state: watch::Sender::new(State::Running),
            pace: keeping.backpressure.then(Pace::new),
        })
    }

    fn kept(&self, stream: Stream) -> &Kept {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }

    /// Resolves to how many bytes may be read from the command now. Safe to cancel.
    pub(super) async fn room(&self, stream: Stream) -> usize {
        match &self.pace {
            Some(pace) => {
                // No more than is surely kept may lie between the command and its reader.
                let (end, kept) = {
                    let mut record = self.kept(stream).record();
                    (record.end(), record.assured())
                };
                pace.room(stream, end, kept).await
            }
            None => usize::MAX,
        }
    }

    /// Where the whole of a stream is kept, if it is.
    pub(super) fn spool(&self, stream: Stream) -> Option<&Spool> {
        self.kept(stream).spool.as_ref()
    }

    /// Takes the next bytes of a stream.
    pub(super) fn write(&self, stream: Stream, data: &[u8]) {
        self.kept(stream).record().push(data);
        self.state.send_modify(|_state| {});
    }

    /// Notes the end of the command: all of its output is here.
    pub(super) fn settle(&self, state: State) {
        self.stdout.record().settle();
        self.stderr.record().settle();
        self.state.send_replace(state);
    }

    /// How many bytes are kept in memory.
    pub(super) fn size(&self) -> usize {
        self.stdout.record().kept() + self.stderr.record().kept()
    }

    /// A seat for an attached reader, if the command waits for those.
    pub(super) fn take_seat(&self, from: [u64; 2]) -> Option<Seat> {
        self.pace.as_ref().map(|pace| pace.take_seat(from))
    }

    /// The command is not to wait for a first reader.
    pub(super) fn run_freely(&self) {
        if let Some(pace) = &self.pace {
            pace.release();
        }
    }

    /// Whether the command runs, and how it ended.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Says when the state or the output has changed.
    pub fn changes(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// How many bytes the command has written to a stream.
    pub fn written(&self, stream: Stream) -> u64 {
        self.kept(stream).record().end()
    }

    /// At most `limit` bytes of a stream from an offset on.
    ///
    /// # Errors
    /// When a spool cannot be read.
    pub async fn read(&self, stream: Stream, from: u64, limit: usize) -> io::Result<Piece> {
        let kept = self.kept(stream);
        let piece = kept.record().read(from, limit);
        match (&piece, &kept.spool) {
            (Piece::Gap { to }, Some(spool)) if from < spool.end() => {
                let missing = usize::try_from(*to - from).unwrap_or(usize::MAX);
                Ok(Piece::Data(spool.read(from, limit.min(missing)).await?))
            }
            _ => Ok(piece),
        }
    }

    /// Looks at what is kept of a stream in memory. The command cannot write meanwhile.
    pub fn look<T>(&self, stream: Stream, look: impl FnOnce(&Record) -> T) -> T {
        look(&self.kept(stream).record())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(keep: Keep, spool: Option<SpoolDirectory>) -> Output {
        let keeping = Keeping { keep, backpressure: false, spool };
        Output::new(&keeping, &Budget::new(usize::MAX)).unwrap()
    }

    #[tokio::test]
    async fn writing_wakes_readers_and_never_waits_for_them() {
        let output = output(Keep::tail(4), None);
        let mut reader = output.changes();
        for _ in 0..3 {
            output.write(Stream::Stderr, b"abc");
        }
        reader.changed().await.unwrap();
        let read = output.read(Stream::Stderr, 5, 9).await.unwrap();
        assert_eq!(read, Piece::Data("cabc".into()));
        assert_eq!((output.written(Stream::Stdout), output.size()), (0, 4));
    }

    #[tokio::test]
    async fn what_the_ring_has_lost_the_spool_still_has() {
        let dir = tempfile::tempdir().unwrap();
        let (path, total) = (dir.path().to_owned(), Budget::new(99));
        let spool = SpoolDirectory { path, limit: 5, total };
        let output = output(Keep::tail(2), Some(spool));
        for data in ["abc", "de", "fgh"] {
            output.spool(Stream::Stdout).unwrap().append(data.into()).await;
            output.write(Stream::Stdout, data.as_bytes());
        }
        let read = async |from| output.read(Stream::Stdout, from, 4).await.unwrap();
        assert_eq!(read(0).await, Piece::Data("abcd".into()));
        assert_eq!(read(4).await, Piece::Data("e".into()));
        assert_eq!(read(5).await, Piece::Gap { to: 6 });
        assert_eq!(read(6).await, Piece::Data("gh".into()));
    }
}
