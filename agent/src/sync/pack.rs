//! Entries of a directory tree into a tar stream: all of them, or those that a comparison has found.
//!
//! Nothing is opened but through the root, and no link is followed. Memory does not grow with the
//! tree. Entries that vanish meanwhile are not there, as in any snapshot taken a moment later. What
//! cannot be carried (sockets, FIFOs, devices, unreadable files) is noted in the stream and in the
//! report, so that code in the workspace cannot stop its own work from being saved by removing a
//! permission.

mod large;
mod patch;

use std::{
    fs::File,
    io::{self, Read},
};

use http::StatusCode;
use rustix::io::Errno;
use workspace_common::problem::Problem;

use super::{
    archive::{Member, MemberKind, Report, SkipReason, writer::ArchiveWriter},
    delta::wire::ChunksError,
    diff::Change,
    manifest::{Entry, Node, wire::ManifestError},
};
use crate::files::{
    FileError, FileErrorKind, Root, WorkspacePath,
    directory::Directory,
    metadata::Metadata,
    resolve::Links,
    transfer::{CHUNK, TakeFile},
};

pub use patch::Updates;

/// Why a tree could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file or directory could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The manifest of the other side, which decides what is packed, is refused or cut.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The list of chunks of the other side, which decides what is sent of a file, is refused or cut.
    #[error(transparent)]
    Chunks(#[from] ChunksError),
    /// The archive could not be written: whoever receives it is gone.
    #[error("the archive could not be sent: {0}")]
    Output(io::Error),
}

impl From<PackError> for Problem {
    fn from(error: PackError) -> Self {
        let detail = error.to_string();
        match error {
            PackError::File(error) => error.into(),
            PackError::Manifest(ManifestError::Line { .. }) => {
                Self::bad_request("bad_manifest", detail)
            }
            PackError::Manifest(ManifestError::Cut(_) | ManifestError::Stream(_)) => {
                Self::bad_request("manifest_cut", detail)
            }
            PackError::Chunks(_) => Self::bad_request("bad_chunks", detail),
            PackError::Output(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
            }
        }
    }
}

/// All entries of a scan as changes, for a receiver that has none of them.
pub fn whole<E>(
    entries: impl Iterator<Item = Result<Entry, E>>,
) -> impl Iterator<Item = Result<Change, E>> {
    entries.map(|entry| {
        entry.map(|entry| match entry.node {
            Node::Skipped(_) => Change::Skip(entry),
            Node::File { .. } | Node::Directory | Node::Symlink(_) => Change::Create(entry),
        })
    })
}

/// Packs what `changes` names in `root` and tells `progress` after every entry and chunk. Removed
/// entries become notes. Blocks.
///
/// # Errors
/// When a directory or file fails in the middle; the stream then lacks its end marker.
pub fn pack<W: TakeFile, E: Into<PackError>>(
    root: &Root,
    changes: impl Iterator<Item = Result<Change, E>>,
    output: W,
    progress: &mut dyn FnMut(&Report),
) -> Result<(W, Report), PackError> {
    pack_updates(root, changes, Updates::Whole, output, progress)
}

/// Like [`pack`], with a way to send files that the receiver has in another form.
///
/// # Errors
/// As [`pack`].
pub fn pack_updates<W: TakeFile, E: Into<PackError>>(
    root: &Root,
    changes: impl Iterator<Item = Result<Change, E>>,
    updates: Updates<'_>,
    output: W,
    progress: &mut dyn FnMut(&Report),
) -> Result<(W, Report), PackError> {
    let mut packer = Packer {
        root,
        parent: None,
        updates,
        archive: ArchiveWriter::new(output),
        report: Report::default(),
        buffer: vec![0; CHUNK],
        progress,
    };
    for change in changes {
        packer.take(&change.map_err(Into::into)?)?;
        (packer.progress)(&packer.report);
    }
    let output = packer.archive.finish().map_err(PackError::Output)?;
    Ok((output, packer.report))
}

struct Packer<'p, W> {
    root: &'p Root,
    /// The directory of the last entry: the next one is mostly in the same.
    parent: Option<(WorkspacePath, Directory)>,
    updates: Updates<'p>,
    archive: ArchiveWriter<W>,
    report: Report,
    buffer: Vec<u8>,
    progress: &'p mut dyn FnMut(&Report),
}

impl<W: TakeFile> Packer<'_, W> {
    fn take(&mut self, change: &Change) -> Result<(), PackError> {
        let packed = match change {
            Change::Update(entry) if self.updates.defers(entry) => self.defer(entry),
            Change::Create(entry) | Change::Update(entry) => self.append(entry),
            Change::Touch(entry) if matches!(entry.node, Node::File { .. }) => {
                self.append_kept(entry)
            }
            Change::Touch(entry) => self.append(entry),
            Change::Remove(entry) => {
                self.archive.append_removed(entry.path.as_bytes()).map_err(PackError::Output)?;
                self.report.removed += 1;
                Ok(())
            }
            Change::Skip(Entry { path, node: Node::Skipped(reason), .. }) => {
                self.skip(path, *reason)
            }
            Change::Skip(_) => Ok(()),
        };
        match packed {
            Err(PackError::File(error)) => self.skip_or_fail(&change.entry().path, error),
            packed => packed,
        }
    }

    fn append(&mut self, entry: &Entry) -> Result<(), PackError> {
        match &entry.node {
            Node::File { .. } => self.append_file(&entry.path),
            Node::Directory => {
                self.append_bare(entry, MemberKind::Directory)?;
                self.report.directories += 1;
                Ok(())
            }
            Node::Symlink(target) => {
                self.append_bare(entry, MemberKind::Symlink(target.clone()))?;
                self.report.symlinks += 1;
                Ok(())
            }
            Node::Skipped(reason) => self.skip(&entry.path, *reason),
        }
    }

    fn append_kept(&mut self, entry: &Entry) -> Result<(), PackError> {
        self.append_bare(entry, MemberKind::Kept)?;
        self.report.touched += 1;
        Ok(())
    }

    /// A member without content, as it was when it was scanned.
    fn append_bare(&mut self, entry: &Entry, kind: MemberKind) -> Result<(), PackError> {
        let (path, mode, modified) = (entry.path.as_bytes().to_vec(), entry.mode, entry.modified);
        let member = Member { path, kind, mode, modified };
        self.archive.append(&member).map_err(PackError::Output)
    }

    fn append_file(&mut self, path: &WorkspacePath) -> Result<(), PackError> {
        if self.append_delta(path)? {
            return Ok(());
        }
        let (mut file, metadata) = self.open(path)?;
        // Most files fit the buffer: their size is then what was read, whatever happens meanwhile.
        let first = self.fill_buffer(path, &mut file, metadata.size)?;
        let whole = first < self.buffer.len();
        let size = if whole { as_u64(first) } else { metadata.size.max(as_u64(first)) };
        let kind = if metadata.allocated < size && !whole {
            MemberKind::Sparse(size)
        } else {
            MemberKind::File(size)
        };
        let member = member(path, kind, &metadata);
        if whole {
            let content = self.buffer.get(..first).unwrap_or_default();
            self.archive.append_small_file(&member, content).map_err(PackError::Output)?;
        } else {
            self.append_large((path, &member), size, first, &file)?;
        }
        self.report.files += 1;
        self.report.bytes += size;
        Ok(())
    }

    fn open(&mut self, path: &WorkspacePath) -> Result<(File, Metadata), FileError> {
        let fail = |errno| FileError::from_errno("read", path, errno);
        let (parent, name) = path.split_last().ok_or_else(|| fail(Errno::ISDIR))?;
        match &self.parent {
            Some((open, directory)) if *open == parent => directory.open_file(name).map_err(fail),
            _ => {
                let directory = self.root.open_directory(&parent, Links::Refuse)?;
                let opened = directory.open_file(name);
                self.parent = Some((parent, directory));
                opened.map_err(fail)
            }
        }
    }

    /// Reads until the buffer is full, or the file at its end. One that has given as many bytes as it
    /// had when it was opened is not asked once more.
    fn fill_buffer(
        &mut self,
        path: &WorkspacePath,
        file: &mut File,
        expected: u64,
    ) -> Result<usize, FileError> {
        let mut filled = 0;
        while filled == 0 || as_u64(filled) != expected {
            let rest = self.buffer.get_mut(filled..).filter(|rest| !rest.is_empty());
            let Some(rest) = rest else { break };
            match file.read(rest) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FileError::from_io("read", path, &error)),
            }
        }
        Ok(filled)
    }

    fn skip(&mut self, path: &WorkspacePath, reason: SkipReason) -> Result<(), PackError> {
        self.report.add_skipped(path.as_bytes(), reason);
        self.archive.append_skipped(path.as_bytes(), reason).map_err(PackError::Output)
    }

    fn skip_or_fail(&mut self, path: &WorkspacePath, error: FileError) -> Result<(), PackError> {
        match error.kind() {
            // Removed, or replaced by something else, since its name was read.
            FileErrorKind::NotFound
            | FileErrorKind::NotADirectory
            | FileErrorKind::IsADirectory
            | FileErrorKind::NotRegular
            | FileErrorKind::Link
            | FileErrorKind::TooManyLinks => Ok(()),
            FileErrorKind::PermissionDenied => self.skip(path, SkipReason::Unreadable),
            FileErrorKind::TooDeep | FileErrorKind::BadPath(_) => {
                self.skip(path, SkipReason::TooDeep)
            }
            _ => Err(error.into()),
        }
    }
}

fn member(path: &WorkspacePath, kind: MemberKind, metadata: &Metadata) -> Member {
    Member {
        path: path.as_bytes().to_vec(),
        kind,
        mode: metadata.mode,
        modified: metadata.modified,
    }
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
