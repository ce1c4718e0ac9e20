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
//! directory is only replaced by a directory; notes of removals, and what is to stand in the place of
//! a directory, are handed to the caller, who judges them as a whole and has them done by
//! [`Unpacked::settle`], or not.
//!
//! Directories get their mode and time when the archive leaves them, as depth-first archives do
//! (all common programs write such): in another order the content is right and their times may not
//! be.

mod error;
mod how;
mod notes;
mod patch;
mod replace;

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    io::BufRead,
};

use rustix::io::Errno;

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
    temporary::TemporaryFile,
};
pub use error::UnpackError;
pub use how::{Limits, Purpose, Removals, Same, Unpacking};
pub use notes::{Selected, Wanted};
pub use replace::Replacement;
use replace::Replacing;

/// What came of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unpacked {
    /// What was moved.
    pub report: Report,
    /// What the sender wants removed, and still is there.
    pub removals: Vec<WorkspacePath>,
    /// What waits for a directory to be removed from its place.
    pub replacements: Vec<Replacement>,
    /// Large files that the sender keeps back, to be asked for.
    pub deferred: Vec<WorkspacePath>,
}

/// Unpacks `input` beneath `root` and tells `progress` after every entry and chunk. Blocks.
///
/// # Errors
/// When the archive is refused, cut or over a limit, or an entry cannot be made.
pub fn unpack(
    root: &Root,
    unpacking: Unpacking,
    input: impl BufRead,
    progress: &mut dyn FnMut(&Report),
) -> Result<Unpacked, UnpackError> {
    unpack_selected(root, unpacking, Selected::default(), input, progress)
}

/// Like [`unpack`], but takes only what is `selected`.
///
/// # Errors
/// As [`unpack`], and when the archive has what is excluded.
pub fn unpack_selected(
    root: &Root,
    unpacking: Unpacking,
    selected: Selected<'_>,
    input: impl BufRead,
    progress: &mut dyn FnMut(&Report),
) -> Result<Unpacked, UnpackError> {
    let mut unpacker = Unpacker {
        root,
        unpacking,
        selected,
        done: Unpacked::default(),
        seen: Seen::default(),
        parent: None,
        open_directories: Vec::new(),
        progress,
    };
    let unpacked = unpacker.take_all(ArchiveReader::new(input));
    if unpacked.is_err() {
        unpacker.abandon();
    }
    unpacked.map(|()| unpacker.done)
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
    selected: Selected<'u>,
    done: Unpacked,
    seen: Seen,
    /// The directory of the last member: the next one is mostly in the same.
    parent: Option<Parent>,
    open_directories: Vec<OpenDirectory>,
    progress: &'u mut dyn FnMut(&Report),
}

impl Unpacker<'_> {
    fn take_all<R: BufRead>(&mut self, mut archive: ArchiveReader<R>) -> Result<(), UnpackError> {
        while let Some(item) = archive.next_item()? {
            match item {
                Item::Member(member) => self.take(&mut archive, &member)?,
                Item::Skipped(path, reason) => self.done.report.add_skipped(&path, reason),
                Item::Removed(path) => self.note_removal(&path)?,
                Item::Deferred(path) => self.note_deferred(&path)?,
            }
            (self.progress)(&self.done.report);
        }
        self.leave_parent()?;
        Ok(self.leave_directories(None)?)
    }

    /// Ends an archive that failed. What came of it stays, and so its directories get their modes.
    fn abandon(&mut self) {
        let left = self.leave_parent().and_then(|()| self.leave_directories(None));
        if let Err(error) = left {
            tracing::debug!(%error, "a directory of a failed transfer has no final mode");
        }
        self.done.discard(self.root);
    }

    fn take<R: BufRead>(
        &mut self,
        archive: &mut ArchiveReader<R>,
        member: &Member,
    ) -> Result<(), UnpackError> {
        let path = accept_path(&member.path)?;
        let Some((parent_path, name)) = path.split_last() else {
            return Ok(accept_top(member)?);
        };
        let kind = match member.kind {
            MemberKind::Directory => Kind::Directory,
            MemberKind::Symlink(_) => Kind::Symlink,
            _ => Kind::File,
        };
        self.refuse_excluded(&path, kind)?;
        self.count(&path, member)?;
        // In this order: the time that a directory gets in the end is the one of the archive.
        if self.parent.as_ref().is_some_and(|last| last.path != parent_path) {
            self.leave_parent()?;
        }
        self.leave_directories(Some(&path))?;
        if !self.wants(&path) {
            return Ok(());
        }
        let parent = self.open_parent(&path, parent_path)?;
        if !self.is_as_expected(&path, &parent.directory, name) {
            self.parent = Some(parent);
            return Ok(());
        }
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
                self.make_link(member, target, &path, (&parent.directory, name))?
            }
            MemberKind::Kept => {
                touch(&parent.directory, name, member).map_err(fail)?;
                self.done.report.touched += 1;
            }
            MemberKind::Delta { size, .. } => {
                self.patch_file(archive, (member, *size), &path, (&parent.directory, name))?;
            }
            MemberKind::File(size) | MemberKind::Sparse(size) => {
                let may_skip = self.unpacking.same == Same::LeaveAlone;
                if may_skip && is_same(&parent.directory, name, member, *size) {
                    self.done.report.unchanged += 1;
                } else {
                    self.write_file(archive, member, &path, (&parent.directory, name))?;
                }
            }
        }
        self.parent = Some(parent);
        Ok(())
    }

    fn count(&mut self, path: &WorkspacePath, member: &Member) -> Result<(), UnpackError> {
        let (report, limits) = (&self.done.report, self.unpacking.limits);
        if report.entries() + report.unchanged >= limits.max_entries {
            return Err(UnpackError::TooManyEntries(limits.max_entries, path.clone()));
        }
        if let MemberKind::File(size) | MemberKind::Sparse(size) | MemberKind::Delta { size, .. } =
            member.kind
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
        if let Some(parent) = self.parent.take() {
            return Ok(parent);
        }
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

    fn write_file<R: BufRead>(
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
            let bytes = archive.content()?;
            if bytes.is_empty() {
                break;
            }
            let length = bytes.len();
            let written = if holes { file.write_holes(bytes) } else { file.write_all(bytes) };
            written.map_err(fail_io)?;
            archive.consume(length);
            self.done.report.bytes += u64::try_from(length).unwrap_or(u64::MAX);
            (self.progress)(&self.done.report);
        }
        if holes {
            file.end_here().map_err(fail_io)?;
        }
        file.set_mode(member.mode).map_err(fail)?;
        file.set_modified(member.modified).map_err(fail)?;
        if self.has_to_wait(parent, name) {
            self.wait(path, file.keep(), Replacing::File);
            return Ok(());
        }
        file.publish(name).map_err(fail)?;
        self.done.report.files += 1;
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
