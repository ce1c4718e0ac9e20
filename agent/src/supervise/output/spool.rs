//! The whole of a stream in a file without a name, for commands that asked for it: nothing of the
//! file is left when the agent is killed.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;

/// Names tried for a file before giving up.
const ATTEMPTS: usize = 8;

/// Where such files are made, and how large each may become.
#[derive(Debug, Clone)]
pub struct SpoolDirectory {
    /// The directory.
    pub path: PathBuf,
    /// Most bytes of one stream.
    pub limit: u64,
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
        let result = if at + length > self.limit {
            Err(io::Error::other(format!("the limit of {} bytes is reached", self.limit)))
        } else {
            let write = tokio::task::spawn_blocking(move || file.write_all_at(&data, at));
            write.await.unwrap_or_else(|error| Err(io::Error::other(error)))
        };
        match result {
            Ok(()) => self.end.store(at + length, Ordering::Release),
            Err(error) => {
                self.full.store(true, Ordering::Relaxed);
                tracing::warn!(%error, at, "no more output is spooled");
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_appended_is_read_back_and_the_file_has_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let spools = SpoolDirectory { path: dir.path().to_owned(), limit: 8 };
        let spool = spools.create().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        spool.append("abc".into()).await;
        spool.append("defg".into()).await;
        assert_eq!(spool.read(2, 3).await.unwrap(), "cde");
        assert_eq!(spool.read(5, 99).await.unwrap(), "fg");
        spool.append("hi".into()).await;
        spool.append("j".into()).await;
        assert_eq!(spool.end(), 7, "nothing follows what did not fit");
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        let spools = SpoolDirectory { path: "/nonexistent".into(), limit: 8 };
        assert_eq!(spools.create().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
