//! The chunks of a file, with what its copy will be given.

use std::{fs::File, io};

use super::{Chunk, MAX_CHUNKS, chunker::cut};
use crate::files::{
    FileError, FileErrorKind, Root, WorkspacePath,
    metadata::{FileTime, Metadata},
    resolve::Links,
};

/// A file as it was when it was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Its chunks, which are all of it.
    pub chunks: Vec<Chunk>,
    /// Their lengths together.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Last change before it was read: what is changed later has another one.
    pub modified: FileTime,
}

impl Signature {
    /// Reads a regular file beneath `root`, no links followed. Blocks.
    ///
    /// # Errors
    /// When there is none, it cannot be read, or has more chunks than a list may.
    pub fn read(root: &Root, path: &WorkspacePath) -> Result<Self, FileError> {
        let (file, metadata) = open(root, path)?;
        let mut signature =
            Self { chunks: Vec::new(), size: 0, mode: metadata.mode, modified: metadata.modified };
        let cut = cut(file, |chunk| signature.add(chunk));
        cut.map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => FileError::new("cut", path, FileErrorKind::TooLarge),
            _ => FileError::from_io("read", path, &error),
        })?;
        Ok(signature)
    }

    fn add(&mut self, chunk: Chunk) -> io::Result<()> {
        if self.chunks.len() == MAX_CHUNKS {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.size += u64::from(chunk.length);
        self.chunks.push(chunk);
        Ok(())
    }

    /// Whether a file with this metadata is still the one that was cut, as far as they tell.
    pub fn is_of(&self, metadata: &Metadata) -> bool {
        metadata.size == self.size && metadata.modified == self.modified
    }
}

/// Opens a regular file beneath `root`, no links followed.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn open(root: &Root, path: &WorkspacePath) -> Result<(File, Metadata), FileError> {
    let Some((parent, name)) = path.split_last() else {
        return Err(FileError::new("read", path, FileErrorKind::IsADirectory));
    };
    let directory = root.open_directory(&parent, Links::Refuse)?;
    directory.open_file(name).map_err(|errno| FileError::from_errno("read", path, errno))
}
