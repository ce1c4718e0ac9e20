//! The whole of a stream in a file without a name, for commands that asked for it: nothing of the
//! file is left when the agent is killed.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;

use super::budget::{Budget, Share};

/// Names tried for a file before giving up.
const ATTEMPTS: usize = 8;

/// Where such files are made, and how large they may become, each and all together.
#[derive(Debug, Clone)]
pub struct SpoolDirectory {
    /// The directory.
    pub path: PathBuf,
    /// Most bytes of one stream.
    pub limit: u64,
    /// Bytes of all streams together. A stream's are free again when nobody holds its spool.
    pub total: Budget,
}

impl SpoolDirectory {
    /// A new, empty spool.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(&self) -> io::Result<Spool> {
        Ok(Spool {
            file: Arc::new(self.nameless_file()?),
            end: AtomicU64::new(0),
            limit: self.limit,
            share: Mutex::new(self.total.share()),
            full: AtomicBool::new(false),
        })
    }

    /// A name for a moment: not every file system has `O_TMPFILE` (open(2)).
    fn nameless_file(&self) -> io::Result<File> {
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..ATTEMPTS {
            let path = self.path.join(format!(".spool-{:016x}", fastrand::u64(..)));
            match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
                Ok(file) => {
                    std::fs::remove_file(&path)?;
                    return Ok(file);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// One stream in a file. One task writes, anybody reads.
#[derive(Debug)]
pub struct Spool {
    file: Arc<File>,
    end: AtomicU64,
    limit: u64,
    share: Mutex<Share>,
    /// It has no room, or its disk has none: what it has stays readable.
    full: AtomicBool,
}

impl Spool {
    /// Appends bytes, as far as there is room. What does not fit whole is left out, and so is
    /// everything after it.
    pub async fn append(&self, data: Bytes) {
        if self.full.load(Ordering::Relaxed) {
            return;
        }
        let (file, at, length) = (self.file.clone(), self.end(), data.len() as u64);
        let result = match self.claim(at + length) {
            Ok(()) => {
                let write = tokio::task::spawn_blocking(move || file.write_all_at(&data, at));
                write.await.unwrap_or_else(|error| Err(io::Error::other(error)))
            }
            Err(full) => Err(io::Error::other(full)),
        };
        match result {
            Ok(()) => self.end.store(at + length, Ordering::Release),
            Err(error) => {
                self.full.store(true, Ordering::Relaxed);
                tracing::warn!(%error, at, "no more output is spooled");
            }
        }
    }

    /// Makes sure of room for so many bytes in all.
    fn claim(&self, bytes: u64) -> Result<(), Full> {
        if bytes > self.limit {
            return Err(Full::Stream(self.limit));
        }
        // No code that holds the lock can leave the share half-changed.
        let mut share = self.share.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = usize::try_from(bytes).is_ok_and(|bytes| share.grow_whole_to(bytes));
        fits.then_some(()).ok_or(Full::Total)
    }

    /// Up to where it has the stream.
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// At most `limit` bytes from the offset `from` on.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn read(&self, from: u64, limit: usize) -> io::Result<Bytes> {
        let room = usize::try_from(self.end().saturating_sub(from)).unwrap_or(usize::MAX);
        let mut data = vec![0; limit.min(room)];
        let file = self.file.clone();
        let read = move || file.read_exact_at(&mut data, from).map(|()| Bytes::from(data));
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

/// Why a spool takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Full {
    #[error("the stream has reached {0} bytes (--spool-limit)")]
    Stream(u64),
    #[error("all spools together have used up their room (--spool-total)")]
    Total,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spools(path: impl Into<PathBuf>, total: usize) -> SpoolDirectory {
        SpoolDirectory { path: path.into(), limit: 8, total: Budget::new(total) }
    }

    #[tokio::test]
    async fn what_was_appended_is_read_back_and_the_file_has_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let spool = spools(dir.path(), 99).create().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        spool.append("abc".into()).await;
        spool.append("defg".into()).await;
        assert_eq!(spool.read(2, 3).await.unwrap(), "cde");
        assert_eq!(spool.read(5, 99).await.unwrap(), "fg");
        spool.append("hi".into()).await;
        spool.append("j".into()).await;
        assert_eq!(spool.end(), 7, "nothing follows what did not fit");
    }

    #[tokio::test]
    async fn all_spools_share_their_room_and_give_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let spools = spools(dir.path(), 10);
        let [one, two] = [(); 2].map(|()| spools.create().unwrap());
        one.append("1234567".into()).await;
        two.append("abc".into()).await;
        two.append("d".into()).await;
        assert_eq!((one.end(), two.end()), (7, 3));
        drop(one);
        two.append("d".into()).await;
        assert_eq!(two.end(), 3, "a gap is never followed by more");
        let three = spools.create().unwrap();
        three.append("1234567".into()).await;
        assert_eq!((three.end(), two.read(0, 9).await.unwrap()), (7, "abc".into()));
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        assert_eq!(
            spools("/nonexistent", 99).create().unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
