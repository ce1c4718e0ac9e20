//! Unfinished writes: a file under a reserved name beside its target, renamed into place when it is
//! whole, removed when it is dropped before.
//!
//! rename(2) replaces atomically: readers and crashes see the old content or the new, never a
//! mixture. While it is written the file is locked (flock(2)), and the kernel drops the lock when
//! the process dies in whatever way, so that the sweep at the next start can tell litter from the
//! work of another process.

#![expect(
    clippy::missing_errors_doc,
    reason = "every error is the errno of the system call that failed"
)]

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
};

use rustix::{
    fs::{FlockOperation, fchmod, flock, futimens},
    io::{Errno, Result},
};

use super::{
    directory::{Directory, mode_bits, timestamps},
    metadata::FileTime,
    path::{Name, TEMPORARY_PREFIX},
};

/// Zeros in a row that are worth a hole: file systems allocate in units of at most this.
const HOLE: usize = 64 * 1024;
/// Random names collide about never; this many collisions mean something else is wrong.
const MAX_ATTEMPTS: u32 = 16;

/// A file being written.
#[derive(Debug)]
pub struct TemporaryFile<'d> {
    directory: &'d Directory,
    name: String,
    file: File,
}

impl<'d> TemporaryFile<'d> {
    /// Makes one in `directory`, readable by the owner alone until it is published.
    pub fn create(directory: &'d Directory) -> Result<Self> {
        let (name, file) = with_fresh_name(|name| directory.create_new(name, 0o600))?;
        let temporary = Self { directory, name, file };
        // Without locks (some network file systems) the sweep leaves such files alone.
        match flock(&temporary.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) | Err(Errno::NOTSUP | Errno::NOSYS | Errno::NOLCK) => Ok(temporary),
            Err(errno) => Err(errno),
        }
    }

    /// Sets the permission bits that the published file will have.
    pub fn set_mode(&self, mode: u32) -> Result<()> {
        fchmod(&self.file, mode_bits(mode))
    }

    /// Sets the modification time, after the last write.
    pub fn set_modified(&self, time: FileTime) -> Result<()> {
        futimens(&self.file, &timestamps(time))
    }

    /// Writes all of `bytes`.
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Like [`TemporaryFile::write_all`], but for long zeros, which become holes. Ends with
    /// [`TemporaryFile::end_here`].
    pub fn write_holes(&mut self, bytes: &[u8]) -> io::Result<()> {
        for block in bytes.chunks(HOLE) {
            if block.iter().all(|byte| *byte == 0) {
                let length = i64::try_from(block.len()).unwrap_or(i64::MAX);
                self.file.seek(SeekFrom::Current(length))?;
            } else {
                self.file.write_all(block)?;
            }
        }
        Ok(())
    }

    /// Makes the file as long as it was written, holes included.
    pub fn end_here(&mut self) -> io::Result<()> {
        let end = self.file.stream_position()?;
        self.file.set_len(end)
    }

    /// Waits until the content is on the disk.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::fdatasync(&self.file)
    }

    /// Gives the file its name. What had the name before is gone, unless it is a directory, which
    /// is an error.
    pub fn publish(self, name: Name<'_>) -> Result<()> {
        // Dropping `self` afterwards finds nothing to remove under the temporary name.
        self.directory
            .rename(Name::parse(self.name.as_bytes()).map_err(|_reason| Errno::INVAL)?, name)
    }
}

impl Write for TemporaryFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for TemporaryFile<'_> {
    fn drop(&mut self) {
        remove_quietly(self.directory, &self.name);
    }
}

/// Puts a link in place of whatever has the name, in one step.
pub fn replace_with_symlink(
    directory: &Directory,
    target: &[u8],
    name: Name<'_>,
    modified: FileTime,
) -> Result<()> {
    let (temporary, ()) = with_fresh_name(|fresh| directory.make_symlink(target, fresh))?;
    let fresh = Name::parse(temporary.as_bytes()).map_err(|_reason| Errno::INVAL)?;
    let renamed =
        directory.set_modified(fresh, modified).and_then(|()| directory.rename(fresh, name));
    if renamed.is_err() {
        remove_quietly(directory, &temporary);
    }
    renamed
}

fn with_fresh_name<T>(mut make: impl FnMut(Name<'_>) -> Result<T>) -> Result<(String, T)> {
    let mut attempts = 0;
    loop {
        let name = format!("{TEMPORARY_PREFIX}{:016x}", fastrand::u64(..));
        let parsed = Name::parse(name.as_bytes()).map_err(|_reason| Errno::INVAL)?;
        match make(parsed) {
            Err(Errno::EXIST) if attempts < MAX_ATTEMPTS => attempts += 1,
            made => return made.map(|made| (name, made)),
        }
    }
}

fn remove_quietly(directory: &Directory, name: &str) {
    let Ok(name) = Name::parse(name.as_bytes()) else { return };
    match directory.remove_file(name) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => {
            tracing::warn!(file.name = ?name, %error, "an unfinished write could not be removed");
        }
    }
}
