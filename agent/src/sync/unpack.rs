//! A tar stream from an untrusted sender into a directory tree.
//!
//! Invariant: nothing outside of the root is touched, whatever the archive says and whatever other
//! processes rename or link meanwhile. A link is data: it is made with any target, since dangling
//! and absolute links are part of real trees, but nothing is ever written or read *through* one,
//! neither one that was there nor one from the archive. Each file appears whole, under its name, in
//! one step; a stream that is cut leaves those before it and nothing of the one in progress.
//!
//! Kept are content, permission bits (without set-uid, set-gid and sticky), modification times, and
//! the holes of files that the sender says have some. Not kept are owners, access times and extended
//! attributes. Nothing is removed here, except what a member of the same name replaces, and a
//! directory is only replaced by a directory; notes of removals are handed to the caller, who
//! judges them as a whole.
//!
//! Directories get their mode and time when the archive leaves them, as depth-first archives do
//! (all common programs write such): in another order the content is right and their times may not
//! be.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    io::Read,
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
    remove::{Reach, remove_from},
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

/// What an archive is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// An archive of any program: each of its members is written. Notes of removals are refused.
    Archive,
    /// What makes this tree the same as the sender's: directories keep their times when entries in
    /// them change.
    Mirror(Removals),
}

/// What becomes of a file whose size, mode and time are those of the file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Same {
    /// It is written: the sender knows that it differs, or does not want to rely on that.
    Write,
    /// It is left alone: the sender has not asked what is there.
    LeaveAlone,
}

/// What becomes of notes of removals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removals {
    /// They are passed over: nobody asked for them.
    Ignore,
    /// They are collected, and a directory may be replaced by a file.
    Collect,
}

/// How an archive is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpacking {
    /// What it is taken for.
    pub purpose: Purpose,
    /// What becomes of files that look the same.
    pub same: Same,
    /// How much it may hold.
    pub limits: Limits,
}

impl Unpacking {
    /// For this purpose, with the default limits.
    pub fn of(purpose: Purpose) -> Self {
        Self { purpose, same: Same::Write, limits: Limits::default() }
    }

    fn mirrors(self) -> bool {
        matches!(self.purpose, Purpose::Mirror(_))
    }

    fn removes(self) -> bool {
        self.purpose == Purpose::Mirror(Removals::Collect)
    }
}

/// What came of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unpacked {
    /// What was moved.
    pub report: Report,
    /// What the sender wants removed, and still is there.
    pub removals: Vec<WorkspacePath>,
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
    unpacking: Unpacking,
    input: impl Read,
    progress: &mut dyn FnMut(&Report),
) -> Result<Unpacked, UnpackError> {
    let mut unpacker = Unpacker {
        root,
        unpacking,
        done: Unpacked::default(),
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
            Item::Skipped(path, reason) => unpacker.done.report.add_skipped(&path, reason),
            Item::Removed(path) => unpacker.note_removal(&path)?,
        }
        (unpacker.progress)(&unpacker.done.report);
    }
    unpacker.leave_parent()?;
    unpacker.leave_directories(None)?;
    Ok(unpacker.done)
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

/// The directory that entries are being made in.
struct Parent {
    path: WorkspacePath,
    directory: Directory,
    /// Its time before the first of them.
    modified: FileTime,
}

struct Unpacker<'u> {
    root: &'u Root,
    unpacking: Unpacking,
    done: Unpacked,
    seen: Seen,
    /// The directory of the last member: the next one is mostly in the same.
    parent: Option<Parent>,
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
        let path = accept_path(&member.path)?;
        let Some((parent_path, name)) = path.split_last() else {
            return Ok(accept_top(member)?);
        };
        self.count(&path, member)?;
        self.leave_directories(Some(&path))?;
        let parent = self.open_parent(&path, parent_path)?;
        let fail = |errno| FileError::from_errno("unpack", &path, errno);
        match &member.kind {
            MemberKind::Directory => {
                make_directory(&parent.directory, name).map_err(fail)?;
                self.open_directories.push(OpenDirectory {
                    path: path.clone(),
                    mode: member.mode,
                    modified: member.modified,
                });
                self.done.report.directories += 1;
            }
            MemberKind::Symlink(target) => {
                self.clear(&path, &parent.directory, name)?;
                replace_with_symlink(&parent.directory, target, name, member.modified)
                    .map_err(fail)?;
                self.done.report.symlinks += 1;
            }
            MemberKind::Kept => {
                touch(&parent.directory, name, member).map_err(fail)?;
                self.done.report.touched += 1;
            }
            MemberKind::File(size) | MemberKind::Sparse(size) => {
                let may_skip = self.unpacking.same == Same::LeaveAlone;
                if may_skip && is_same(&parent.directory, name, member, *size) {
                    self.done.report.unchanged += 1;
                } else {
                    self.clear(&path, &parent.directory, name)?;
                    self.write_file(archive, member, &path, (&parent.directory, name))?;
                    self.done.report.files += 1;
                }
            }
        }
        self.parent = Some(parent);
        Ok(())
    }

    fn note_removal(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        if self.unpacking.purpose == Purpose::Archive {
            return Err(ReadError::refused(path, ArchiveFault::Removal).into());
        }
        if self.unpacking.removes() {
            let path = accept_path(path)?;
            let entries = self.done.removals.len();
            if u64::try_from(entries).is_ok_and(|n| n >= self.unpacking.limits.max_entries) {
                let limit = self.unpacking.limits.max_entries;
                return Err(UnpackError::TooManyEntries(limit, path));
            }
            self.done.removals.push(path);
        }
        Ok(())
    }

    /// Takes a directory away that a file or link is to replace, where that was asked for.
    fn clear(
        &self,
        path: &WorkspacePath,
        parent: &Directory,
        name: Name<'_>,
    ) -> Result<(), FileError> {
        let is_directory = || parent.stat(name).is_ok_and(|there| there.kind == Kind::Directory);
        if self.unpacking.removes() && is_directory() {
            remove_from(parent, name, path, Reach::Tree)?;
        }
        Ok(())
    }

    fn count(&mut self, path: &WorkspacePath, member: &Member) -> Result<(), UnpackError> {
        let (report, limits) = (&self.done.report, self.unpacking.limits);
        if report.entries() + report.unchanged >= limits.max_entries {
            return Err(UnpackError::TooManyEntries(limits.max_entries, path.clone()));
        }
        if let MemberKind::File(size) | MemberKind::Sparse(size) = member.kind
            && size > limits.max_bytes.saturating_sub(report.bytes)
        {
            return Err(UnpackError::TooManyBytes(limits.max_bytes, path.clone()));
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
    ) -> Result<Parent, FileError> {
        match self.parent.take() {
            Some(parent) if parent.path == parent_path => return Ok(parent),
            last => self.parent = last,
        }
        self.leave_parent()?;
        let directory = self.root.create_directories(&parent_path, Links::Refuse);
        let directory = directory.map_err(|error| FileError::new("unpack", path, error.kind()))?;
        let there = directory.metadata();
        let there = there.map_err(|errno| FileError::from_errno("examine", &parent_path, errno))?;
        Ok(Parent { path: parent_path, directory, modified: there.modified })
    }

    /// Gives the directory of the last entry its time back. Where the archive has another for it,
    /// that is set later.
    fn leave_parent(&mut self) -> Result<(), FileError> {
        match self.parent.take() {
            Some(parent) if self.unpacking.mirrors() => parent
                .directory
                .set_own_modified(parent.modified)
                .map_err(|errno| FileError::from_errno("set the time of", &parent.path, errno)),
            _ => Ok(()),
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
        let fail_io = |error| FileError::from_io("unpack", path, &error);
        let mut file = TemporaryFile::create(parent).map_err(fail)?;
        let holes = matches!(member.kind, MemberKind::Sparse(_));
        loop {
            let length = archive.read_content(&mut self.buffer)?;
            let Some(bytes) = self.buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            let written = if holes { file.write_holes(bytes) } else { file.write_all(bytes) };
            written.map_err(fail_io)?;
            self.done.report.bytes += u64::try_from(length).unwrap_or(u64::MAX);
            (self.progress)(&self.done.report);
        }
        if holes {
            file.end_here().map_err(fail_io)?;
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

fn accept_path(path: &[u8]) -> Result<WorkspacePath, ReadError> {
    let refuse = |reason: PathError| ReadError::refused(path, reason);
    let accepted = WorkspacePath::parse(path).map_err(refuse)?;
    if accepted.names().any(Name::is_temporary) {
        return Err(refuse(PathError::Reserved));
    }
    Ok(accepted)
}

/// Archives of `tar -C dir .` name the directory itself; it is there and stays as it is.
fn accept_top(member: &Member) -> Result<(), ReadError> {
    match member.kind {
        MemberKind::Directory => Ok(()),
        _ => Err(ReadError::refused(&member.path, PathError::Empty)),
    }
}

/// Whether the very file is there already, as far as size, mode and time tell.
fn is_same(directory: &Directory, name: Name<'_>, member: &Member, size: u64) -> bool {
    directory.stat(name).is_ok_and(|there| {
        there.kind == Kind::File
            && there.size == size
            && there.mode == member.mode
            && there.modified == member.modified
    })
}

/// Sets mode and time of a file that is there.
fn touch(directory: &Directory, name: Name<'_>, member: &Member) -> Result<(), Errno> {
    let there = directory.stat(name)?;
    if there.kind != Kind::File {
        return Err(Errno::NXIO);
    }
    if there.mode != member.mode {
        directory.set_mode(name, member.mode)?;
    }
    directory.set_modified(name, member.modified)
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
