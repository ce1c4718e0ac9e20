//! `PUT` of a file: written beside its target, hashed on the way, renamed into place when whole.
//!
//! A link at the path is replaced, not written through. Nothing waits for the disk unless asked to:
//! the rename alone survives a killed agent, a workspace does not outlive its machine anyway, and
//! an fsync a file would cost milliseconds each. `?fsync=true` is for those who keep the volume.

use std::io::{Read, Write};

use sha2::{Digest, Sha256};

use super::{
    conditions::Preconditions,
    digest::ContentDigest,
    error::{FileError, FileErrorKind},
    metadata::Metadata,
    path::WorkspacePath,
    publish::{self, Replace, look_ahead, mode_of_new, what_stands_there},
    root::{Missing, Root},
    temporary::TemporaryFile,
    transfer::CHUNK,
};

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When the new content is in place for every process.
    Visible,
    /// When content and name are on the disk, too.
    Synced,
}

/// How a file is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteOptions {
    /// The permission bits; those of the file that is replaced, or 0644, where none are given.
    pub mode: Option<u32>,
    /// When the write counts as done.
    pub durability: Durability,
    /// Most bytes that are accepted.
    pub max_bytes: u64,
    /// What has to be there before.
    pub conditions: Preconditions,
    /// What the content has to be.
    pub expected: Option<ContentDigest>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Bytes of content.
    pub size: u64,
    /// Of the content.
    pub digest: ContentDigest,
    /// Whether nothing had the name before.
    pub created: bool,
    /// The new file.
    pub metadata: Metadata,
}

/// Writes `content` to `path`, with directories that are missing. Blocks.
///
/// # Errors
/// When the path is not usable, the content ends early, is too long or not the announced one, a
/// condition does not hold, or the disk is full. The old file, if there was one, is whole then, and
/// nothing else is left behind.
pub fn write(
    root: &Root,
    path: &WorkspacePath,
    options: &WriteOptions,
    content: impl Read,
) -> Result<Written, FileError> {
    let fail = |errno| FileError::from_errno("write", path, errno);
    look_ahead(root, path, &options.conditions)?;
    let (directory, name) = root.parent("write", path, Missing::Create)?;
    let former = what_stands_there(&directory, name).map_err(fail)?;
    let mut temporary = TemporaryFile::create(&directory).map_err(fail)?;
    let (size, digest) = copy_and_hash(path, content, &mut temporary, options.max_bytes)?;
    if options.expected.is_some_and(|expected| expected != digest) {
        return Err(FileError::new("write", path, FileErrorKind::DigestMismatch));
    }
    temporary.set_mode(mode_of_new(options.mode, former.as_ref())).map_err(fail)?;
    if options.durability == Durability::Synced {
        temporary.sync().map_err(fail)?;
    }
    let place = (&directory, name);
    let replaced =
        publish::publish(root, path, place, &options.conditions, |replace| match replace {
            Replace::Yes => temporary.publish(name),
            Replace::No => temporary.publish_new(name),
        })?;
    if options.durability == Durability::Synced {
        directory.sync().map_err(fail)?;
    }
    let metadata = directory.stat(name).map_err(fail)?;
    Ok(Written { size, digest, created: replaced.is_none(), metadata })
}

fn copy_and_hash(
    path: &WorkspacePath,
    mut content: impl Read,
    target: &mut impl Write,
    max_bytes: u64,
) -> Result<(u64, ContentDigest), FileError> {
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
    Ok((size, ContentDigest::of(hasher)))
}
