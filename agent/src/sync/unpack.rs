//! A tar stream from an untrusted sender into a directory tree.
//!
//! Invariant: nothing outside of the root is touched, whatever the archive says and whatever other
//! processes rename or link meanwhile. A link is data: it is made with any target, since dangling
//! and absolute links are part of real trees, but nothing is ever written or read *through* one,
//! neither one that was there nor one from the archive. Each file appears whole, under its name, in
//! one step; a stream that is cut leaves those before it and nothing of the one in progress.
//!
//! Kept are content, permission bits (without set-uid, set-gid and sticky) and modification times.
//! Not kept are owners, access times and extended attributes. Nothing is removed, except what a
//! member of the same name replaces, and a directory is only replaced by a directory.
//!
//! Directories get their mode and time when the archive leaves them, as depth-first archives do
//! (all common programs write such): in another order the content is right and their times may not
//! be.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    io::{Read, Write},
};

use http::StatusCode;
use rustix::io::Errno;
use workspace_common::problem::Problem;

use super::archive::{
    ArchiveFault, Member, MemberKind, ReadError, Report,
    reader::{ArchiveReader, Item},
};
use crate::files::{
    FileError, Name, Root, WorkspacePath,
    directory::Directory,
    metadata::{FileTime, Kind},
    path::PathError,
    resolve::Links,
    temporary::{TemporaryFile, replace_with_symlink},
    transfer::CHUNK,
};

/// How much an archive may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most members. Each costs eight bytes of memory while the archive is unpacked.
    pub max_entries: u64,
    /// Most bytes of content in all.
    pub max_bytes: u64,
}

impl Default for Limits {
    /// Two million entries, and as many bytes as the disk takes.
    fn default() -> Self {
        Self { max_entries: 2_000_000, max_bytes: u64::MAX }
    }
}

/// Why an archive was not unpacked whole. What came before the failing entry stays.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive is refused or cut.
    #[error(transparent)]
    Archive(#[from] ReadError),
    /// An entry could not be made.
    #[error(transparent)]
    File(#[from] FileError),
    /// More members than allowed.
    #[error("the archive has more than {0} entries; the limit was reached at '{1}'")]
    TooManyEntries(u64, WorkspacePath),
    /// More content than allowed.
    #[error("the archive has more than {0} bytes of content; the limit was reached at '{1}'")]
    TooManyBytes(u64, WorkspacePath),
}

impl From<UnpackError> for Problem {
    fn from(error: UnpackError) -> Self {
        let detail = error.to_string();
        match error {
            UnpackError::File(error) => error.into(),
            UnpackError::Archive(ReadError::Truncated(_) | ReadError::Stream(_)) => {
                Self::bad_request("archive_cut", detail)
            }
            UnpackError::Archive(ReadError::Refused { .. }) => {
                Self::bad_request("bad_archive", detail)
            }
            UnpackError::TooManyEntries(..) | UnpackError::TooManyBytes(..) => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "archive_too_large", detail)
            }
        }
    }
}

/// Unpacks `input` beneath `root` and tells `progress` after every entry and chunk. Blocks.
///
/// # Errors
/// When the archive is refused, cut or over a limit, or an entry cannot be made.
pub fn unpack(
    root: &Root,
    limits: Limits,
    input: impl Read,
    progress: &mut dyn FnMut(&Report),
) -> Result<Report, UnpackError> {
    let mut unpacker = Unpacker {
        root,
        limits,
        report: Report::default(),
        seen: Seen::default(),
        parent: None,
        open_directories: Vec::new(),
        buffer: vec![0; CHUNK],
        progress,
    };
    let mut archive = ArchiveReader::new(input);
    while let Some(item) = archive.next_item()? {
        match item {
            Item::Member(member) => unpacker.take(&mut archive, &member)?,
            Item::Skipped(path, reason) => unpacker.report.add_skipped(&path, reason),
        }
        (unpacker.progress)(&unpacker.report);
    }
    unpacker.leave_directories(None)?;
    Ok(unpacker.report)
}

/// A directory of the archive whose mode and time are set when everything in it is there.
struct OpenDirectory {
    path: WorkspacePath,
    mode: u32,
    modified: FileTime,
}

/// The names that came before, as keyed 64-bit hashes: a sender cannot aim at a collision, and one
/// by chance among a million names has odds of one in thirty million.
#[derive(Default)]
struct Seen {
    key: RandomState,
    hashes: HashSet<u64>,
}

struct Unpacker<'u> {
    root: &'u Root,
    limits: Limits,
    report: Report,
    seen: Seen,
    /// The directory of the last member: the next one is mostly in the same.
    parent: Option<(WorkspacePath, Directory)>,
    open_directories: Vec<OpenDirectory>,
    buffer: Vec<u8>,
    progress: &'u mut dyn FnMut(&Report),
}

impl Unpacker<'_> {
    fn take<R: Read>(
        &mut self,
        archive: &mut ArchiveReader<R>,
        member: &Member,
    ) -> Result<(), UnpackError> {
        let path = accept_path(member)?;
        // Archives of `tar -C dir .` name the directory itself; it is there and stays as it is.
        let Some((parent_path, name)) = path.split_last() else { return Ok(()) };
        self.count(&path, member)?;
        self.leave_directories(Some(&path))?;
        let parent = self.open_parent(&path, parent_path)?;
        let fail = |errno| FileError::from_errno("unpack", &path, errno);
        match &member.kind {
            MemberKind::Directory => {
                make_directory(&parent.1, name).map_err(fail)?;
                self.open_directories.push(OpenDirectory {
                    path: path.clone(),
                    mode: member.mode,
                    modified: member.modified,
                });
                self.report.directories += 1;
            }
            MemberKind::Symlink(target) => {
                replace_with_symlink(&parent.1, target, name, member.modified).map_err(fail)?;
                self.report.symlinks += 1;
            }
            MemberKind::File(_) => {
                self.write_file(archive, member, &path, (&parent.1, name))?;
                self.report.files += 1;
            }
        }
        self.parent = Some(parent);
        Ok(())
    }

    fn count(&mut self, path: &WorkspacePath, member: &Member) -> Result<(), UnpackError> {
        if self.report.entries() >= self.limits.max_entries {
            return Err(UnpackError::TooManyEntries(self.limits.max_entries, path.clone()));
        }
        if let MemberKind::File(size) = member.kind
            && size > self.limits.max_bytes.saturating_sub(self.report.bytes)
        {
            return Err(UnpackError::TooManyBytes(self.limits.max_bytes, path.clone()));
        }
        if !self.seen.hashes.insert(self.seen.key.hash_one(path.as_bytes())) {
            return Err(ReadError::refused(path.as_bytes(), ArchiveFault::Duplicate).into());
        }
        Ok(())
    }

    fn open_parent(
        &mut self,
        path: &WorkspacePath,
        parent_path: WorkspacePath,
    ) -> Result<(WorkspacePath, Directory), FileError> {
        match self.parent.take() {
            Some(parent) if parent.0 == parent_path => Ok(parent),
            _ => {
                let directory = self.root.create_directories(&parent_path, Links::Refuse);
                let directory =
                    directory.map_err(|error| FileError::new("unpack", path, error.kind()))?;
                Ok((parent_path, directory))
            }
        }
    }

    fn write_file<R: Read>(
        &mut self,
        archive: &mut ArchiveReader<R>,
        member: &Member,
        path: &WorkspacePath,
        (parent, name): (&Directory, Name<'_>),
    ) -> Result<(), UnpackError> {
        let fail = |errno| FileError::from_errno("unpack", path, errno);
        let mut file = TemporaryFile::create(parent).map_err(fail)?;
        loop {
            let length = archive.read_content(&mut self.buffer)?;
            let Some(bytes) = self.buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            file.write_all(bytes).map_err(|error| FileError::from_io("unpack", path, &error))?;
            self.report.bytes += u64::try_from(length).unwrap_or(u64::MAX);
            (self.progress)(&self.report);
        }
        file.set_mode(member.mode).map_err(fail)?;
        file.set_modified(member.modified).map_err(fail)?;
        file.publish(name).map_err(fail)?;
        Ok(())
    }

    /// Finishes the directories that `next` is not in; all of them at the end.
    fn leave_directories(&mut self, next: Option<&WorkspacePath>) -> Result<(), FileError> {
        while let Some(last) = self
            .open_directories
            .pop_if(|last| !next.is_some_and(|next| next.starts_with(&last.path)))
        {
            let fail = |errno| FileError::from_errno("set the mode of", &last.path, errno);
            let directory = self.root.open_directory(&last.path, Links::Refuse)?;
            directory.set_own_mode(last.mode).map_err(fail)?;
            directory.set_own_modified(last.modified).map_err(fail)?;
        }
        Ok(())
    }
}

fn accept_path(member: &Member) -> Result<WorkspacePath, ReadError> {
    let refuse = |reason: PathError| ReadError::refused(&member.path, reason);
    let path = WorkspacePath::parse(&member.path).map_err(refuse)?;
    if path.names().any(Name::is_temporary) {
        return Err(refuse(PathError::Reserved));
    }
    if path.is_root() && member.kind != MemberKind::Directory {
        return Err(refuse(PathError::Empty));
    }
    Ok(path)
}

/// Makes a directory, in place of a file or link of that name if need be, and sees to it that
/// entries can be made in it until it gets its own mode.
fn make_directory(parent: &Directory, name: Name<'_>) -> Result<(), Errno> {
    const WRITABLE: u32 = 0o700;
    match parent.make_directory(name) {
        Err(Errno::EXIST) => {}
        made => return made,
    }
    let there = parent.stat(name)?;
    if there.kind != Kind::Directory {
        parent.remove_file(name)?;
        return parent.make_directory(name);
    }
    if there.mode & WRITABLE != WRITABLE {
        return parent.open_directory(name)?.set_own_mode(there.mode | WRITABLE);
    }
    Ok(())
}
