//! `PUT` of a file: written beside its target, hashed on the way, renamed into place when whole.
//!
//! A link at the path is replaced, not written through. Nothing waits for the disk unless asked to:
//! the rename alone survives a killed agent, a workspace does not outlive its machine anyway, and
//! an fsync a file would cost milliseconds each. `?fsync=true` is for those who keep the volume.

use std::io::{Read, Write};

use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::{
    directory::Directory,
    error::{FileError, FileErrorKind},
    metadata::{Kind, Metadata},
    path::{Name, WorkspacePath},
    root::{Missing, Root},
    temporary::TemporaryFile,
    transfer::CHUNK,
};

/// The mode of a new file when the request names none.
const DEFAULT_MODE: u32 = 0o644;

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When the new content is in place for every process.
    Visible,
    /// When content and name are on the disk, too.
    Synced,
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteOptions {
    /// The permission bits; those of the file that is replaced, or 0644, where none are given.
    pub mode: Option<u32>,
    /// When the write counts as done.
    pub durability: Durability,
    /// Most bytes that are accepted.
    pub max_bytes: u64,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Bytes of content.
    pub size: u64,
    /// Lower-case hexadecimal SHA-256 of the content.
    pub sha256: String,
    /// Whether nothing had the name before.
    pub created: bool,
    /// The new file.
    pub metadata: Metadata,
}

/// Writes `content` to `path`, with directories that are missing. Blocks.
///
/// # Errors
/// When the path is not usable, the content ends early or is too long, or the disk is full. The old
/// file, if there was one, is whole then, and nothing else is left behind.
pub fn write(
    root: &Root,
    path: &WorkspacePath,
    options: WriteOptions,
    content: impl Read,
) -> Result<Written, FileError> {
    let fail = |errno| FileError::from_errno("write", path, errno);
    let (directory, name) = root.parent("write", path, Missing::Create)?;
    let replaced = what_stands_there(&directory, name).map_err(fail)?;
    let former_mode = replaced.and_then(|replaced| replaced.mode);
    let mode = options.mode.or(former_mode).unwrap_or(DEFAULT_MODE);
    let mut temporary = TemporaryFile::create(&directory).map_err(fail)?;
    let (size, sha256) = copy_and_hash(path, content, &mut temporary, options.max_bytes)?;
    temporary.set_mode(mode).map_err(fail)?;
    if options.durability == Durability::Synced {
        temporary.sync().map_err(fail)?;
    }
    temporary.publish(name).map_err(fail)?;
    if options.durability == Durability::Synced {
        directory.sync().map_err(fail)?;
    }
    let metadata = directory.stat(name).map_err(fail)?;
    Ok(Written { size, sha256, created: replaced.is_none(), metadata })
}

#[derive(Clone, Copy)]
struct Replaced {
    /// The mode to take over; a link has none.
    mode: Option<u32>,
}

fn what_stands_there(directory: &Directory, name: Name<'_>) -> Result<Option<Replaced>, Errno> {
    match directory.stat(name) {
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
        Ok(metadata) => match metadata.kind {
            Kind::Directory => Err(Errno::ISDIR),
            Kind::File => Ok(Some(Replaced { mode: Some(metadata.mode) })),
            Kind::Symlink | Kind::Fifo | Kind::Socket | Kind::Device => {
                Ok(Some(Replaced { mode: None }))
            }
        },
    }
}

fn copy_and_hash(
    path: &WorkspacePath,
    mut content: impl Read,
    target: &mut impl Write,
    max_bytes: u64,
) -> Result<(u64, String), FileError> {
    let fail = |error: std::io::Error| FileError::from_io("write", path, &error);
    let mut buffer = vec![0; CHUNK];
    let mut hasher = Sha256::new();
    let mut size: u64 = 0;
    loop {
        let length = content.read(&mut buffer).map_err(fail)?;
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
        size = size.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        if size > max_bytes {
            return Err(FileError::new("write", path, FileErrorKind::TooLarge));
        }
        hasher.update(bytes);
        target.write_all(bytes).map_err(fail)?;
    }
    Ok((size, format!("{:x}", hasher.finalize())))
}
