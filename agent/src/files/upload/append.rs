//! Taking a part of an upload, and giving the whole its name after the last one. For blocking
//! threads.
//!
//! What has arrived of a part that is cut stays: the sender asks how much that is and goes on.

use std::{
    fs::File,
    io::{Read, Seek, Write},
};

use rustix::{
    fs::{fchmod, fdatasync},
    io::Errno,
};
use sha2::{Digest, Sha256};

use super::{
    super::{
        digest::{ContentDigest, hash_file},
        directory::{Directory, mode_bits},
        error::{FileError, FileErrorKind},
        metadata::Metadata,
        path::Name,
        publish::{self, Replace, mode_of_new, what_stands_there},
        root::Missing,
        temporary::TemporaryFile,
        transfer::CHUNK,
        write::{Durability, Written},
    },
    error::UploadError,
    shelf,
    store::Lease,
};

/// A part, as its sender describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Where it begins.
    pub offset: u64,
    /// How long the whole is, where that is said.
    pub length: Option<u64>,
    /// Whether it is the last one.
    pub complete: bool,
}

/// Takes a part, and ends the upload after the last one. Answers with the size that there is now,
/// and with what was written at the end.
///
/// # Errors
/// When the part is not the next one, is cut, or the file cannot be written as it was asked for. The
/// upload stays, with what has arrived, unless the whole is not what its sender announced.
pub(super) fn append(
    mut lease: Lease,
    part: Part,
    content: impl Read,
) -> Result<(u64, Option<Written>), UploadError> {
    let record = lease.record.clone();
    let fail = |errno| FileError::from_errno("write", &record.path, errno);
    let own = lease.id.to_string();
    let shelf = shelf::open(lease.root()).map_err(fail)?;
    let mut file =
        shelf::name(&own).and_then(|name| shelf.open_for_appending(name)).map_err(fail)?;
    let size = file.metadata().map_err(|error| io_failure(&lease, &error))?.len();
    lease.found(size);
    if part.offset != size {
        return Err(UploadError::Offset { expected: size, given: part.offset });
    }
    let length = announced(&lease, part)?;
    take(&mut lease, &mut file, length, content)?;
    if !part.complete {
        return Ok((lease.size, None));
    }
    if let Some(announced) = length.filter(|announced| *announced != lease.size) {
        return Err(UploadError::Length { announced, found: lease.size });
    }
    match finish(&mut lease, &shelf, &mut file) {
        Ok(written) => {
            lease.end(Some(written.clone()));
            Ok((written.size, Some(written)))
        }
        Err(error) => {
            if error.kind() == FileErrorKind::DigestMismatch {
                lease.end(None);
            }
            Err(error.into())
        }
    }
}

fn io_failure(lease: &Lease, error: &std::io::Error) -> UploadError {
    FileError::from_io("write", &lease.record.path, error).into()
}

/// The length of the whole, if anybody has said it. Both may, if they say the same.
fn announced(lease: &Lease, part: Part) -> Result<Option<u64>, UploadError> {
    match (lease.record.length, part.length) {
        (Some(announced), Some(found)) if announced != found => {
            Err(UploadError::Length { announced, found })
        }
        (first, now) => Ok(first.or(now)),
    }
}

fn take(
    lease: &mut Lease,
    file: &mut File,
    length: Option<u64>,
    mut content: impl Read,
) -> Result<(), UploadError> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = content.read(&mut buffer).map_err(|error| io_failure(lease, &error))?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        let (before, more) = (lease.size, u64::try_from(read).unwrap_or(u64::MAX));
        let found = before.saturating_add(more);
        if let Some(announced) = length.filter(|announced| found > *announced) {
            return Err(UploadError::Length { announced, found });
        }
        if found > lease.record.options.max_bytes {
            return Err(FileError::new("write", &lease.record.path, FileErrorKind::TooLarge).into());
        }
        lease.grow(more)?;
        if let Err(error) = file.write_all(bytes) {
            // Some of it may be there: the size that was noted has to be the size that is.
            let cut = file.set_len(before);
            lease.found(if cut.is_ok() { before } else { found });
            return Err(io_failure(lease, &error));
        }
        if let Some(hash) = &mut lease.hash {
            hash.update(bytes);
        }
    }
}

fn finish(lease: &mut Lease, shelf: &Directory, file: &mut File) -> Result<Written, FileError> {
    let record = lease.record.clone();
    let (path, options) = (&record.path, &record.options);
    let fail = |errno| FileError::from_errno("write", path, errno);
    let digest = digest(lease, file)?;
    if options.expected.is_some_and(|expected| expected != digest) {
        return Err(FileError::new("write", path, FileErrorKind::DigestMismatch));
    }
    let (directory, name) = lease.root().parent("write", path, Missing::Create)?;
    let former = what_stands_there(&directory, name).map_err(fail)?;
    let mode = mode_of_new(options.mode, former.as_ref());
    fchmod(&*file, mode_bits(mode)).map_err(fail)?;
    if options.durability == Durability::Synced {
        fdatasync(&*file).map_err(fail)?;
    }
    let own = lease.id.to_string();
    let own = shelf::name(&own).map_err(fail)?;
    let place = (&directory, name);
    let mut elsewhere = false;
    let replaced = publish::publish(lease.root(), path, place, &options.conditions, |replace| {
        let moved = move_to(shelf, own, place, replace);
        elsewhere = moved == Err(Errno::XDEV);
        moved
    });
    let replaced = if elsewhere { copy(lease, file, place, mode)? } else { replaced? };
    if options.durability == Durability::Synced {
        directory.sync().map_err(fail)?;
    }
    let metadata = directory.stat(name).map_err(fail)?;
    Ok(Written { size: lease.size, digest, created: replaced.is_none(), metadata })
}

/// The digest of the whole. What an earlier agent took, or somebody else wrote, is read for it.
fn digest(lease: &mut Lease, file: &mut File) -> Result<ContentDigest, FileError> {
    let hash: Sha256 = match &lease.hash {
        Some(hash) => hash.clone(),
        None => hash_file(file)
            .map_err(|error| FileError::from_io("read", &lease.record.path, &error))?,
    };
    lease.hash = Some(hash.clone());
    Ok(ContentDigest::of(hash))
}

fn move_to(
    shelf: &Directory,
    own: Name<'_>,
    (directory, name): (&Directory, Name<'_>),
    replace: Replace,
) -> rustix::io::Result<()> {
    match replace {
        Replace::Yes => shelf.rename_to(own, directory, name),
        Replace::No => shelf.rename_new(own, directory, name),
    }
}

/// Writes the content once more, where its directory lies on another file system than the uploads.
fn copy(
    lease: &Lease,
    file: &mut File,
    (directory, name): (&Directory, Name<'_>),
    mode: u32,
) -> Result<Option<Metadata>, FileError> {
    let (path, options) = (&lease.record.path, &lease.record.options);
    let fail = |errno| FileError::from_errno("write", path, errno);
    let fail_io = |error: std::io::Error| FileError::from_io("write", path, &error);
    let mut temporary = TemporaryFile::create(directory).map_err(fail)?;
    file.rewind().map_err(fail_io)?;
    std::io::copy(file, &mut temporary).map_err(fail_io)?;
    temporary.set_mode(mode).map_err(fail)?;
    if options.durability == Durability::Synced {
        temporary.sync().map_err(fail)?;
    }
    let place = (directory, name);
    publish::publish(lease.root(), path, place, &options.conditions, |replace| match replace {
        Replace::Yes => temporary.publish(name),
        Replace::No => temporary.publish_new(name),
    })
}
