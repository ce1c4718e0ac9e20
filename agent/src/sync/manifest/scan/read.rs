//! One directory: its entries, examined and in order.

use rustix::io::Errno;

use super::{Entry, Node, ScanOptions};
use crate::{
    files::{
        FileError, FileErrorKind, Name, Root, WorkspacePath,
        directory::Directory,
        metadata::{FileTime, Kind},
        resolve::Links,
    },
    sync::{archive::SkipReason, manifest::hash::ContentHash},
};

/// Reads a directory. Entries that vanish meanwhile are not there.
///
/// # Errors
/// When it cannot be opened or listed.
pub(super) fn read(
    root: &Root,
    options: &ScanOptions,
    path: &WorkspacePath,
) -> Result<Vec<Entry>, FileError> {
    let fail = |errno| FileError::from_errno("list", path, errno);
    let mut directory = match path.is_root() {
        true => root.directory().reopen().map_err(fail)?,
        false => root.open_directory(path, Links::Refuse)?,
    };
    let now = FileTime::now();
    let mut names = Vec::new();
    while let Some(found) = directory.next_entry() {
        names.push(found.map_err(fail)?);
    }
    names.sort_unstable_by(|left, right| left.0.cmp(&right.0));
    let mut entries = Vec::with_capacity(names.len());
    for (name, kind) in &names {
        let Ok(name) = Name::parse(name) else { continue };
        if name.is_temporary() {
            continue;
        }
        match examine((options, now), path, &directory, (name, *kind)) {
            Ok(found) => entries.extend(found),
            Err(error) if error.kind() == FileErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(entries)
}

fn examine(
    (options, now): (&ScanOptions, FileTime),
    parent: &WorkspacePath,
    directory: &Directory,
    (name, kind): (Name<'_>, Option<Kind>),
) -> Result<Option<Entry>, FileError> {
    let mut path = parent.clone();
    if path.push(name).is_err() {
        return Ok(Some(skipped(parent.clone(), SkipReason::TooDeep)));
    }
    let fail = |errno| FileError::from_errno("examine", &path, errno);
    // Where the kind is known for free, what is excluded costs no system call.
    if kind.is_some_and(|kind| options.exclusions.exclude(&path, kind)) {
        return Ok(None);
    }
    let metadata = directory.stat(name).map_err(fail)?;
    if kind.is_none() && options.exclusions.exclude(&path, metadata.kind) {
        return Ok(None);
    }
    let node = match metadata.kind {
        Kind::File => {
            let hash = match options.hashes {
                true => match hash_file(directory, name) {
                    Ok(hash) => Some(hash),
                    Err(Errno::ACCESS | Errno::PERM) => {
                        return Ok(Some(skipped(path, SkipReason::Unreadable)));
                    }
                    Err(errno) => return Err(fail(errno)),
                },
                false => None,
            };
            Node::File { size: metadata.size, hash }
        }
        Kind::Directory => Node::Directory,
        Kind::Symlink => Node::Symlink(directory.read_link(name).map_err(fail)?),
        Kind::Fifo => Node::Skipped(SkipReason::Fifo),
        Kind::Socket => Node::Skipped(SkipReason::Socket),
        Kind::Device => Node::Skipped(SkipReason::Device),
    };
    let (mode, modified, stamp) = (metadata.mode, metadata.modified, metadata.stamp(now));
    Ok(Some(Entry { path, node, mode, modified, stamp }))
}

fn skipped(path: WorkspacePath, reason: SkipReason) -> Entry {
    let modified = FileTime { seconds: 0, nanoseconds: 0 };
    Entry { path, node: Node::Skipped(reason), mode: 0, modified, stamp: 0 }
}

fn hash_file(directory: &Directory, name: Name<'_>) -> Result<ContentHash, Errno> {
    let (file, _) = directory.open_file(name)?;
    ContentHash::read(file).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
