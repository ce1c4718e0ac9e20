//! A directory tree into a tar stream.
//!
//! The walk follows no link; memory does not grow with the tree. Entries that vanish meanwhile are
//! not there, as in any snapshot taken a moment later. What cannot be carried (sockets, FIFOs,
//! devices, unreadable files) is noted in the stream and in the report, so that code in the
//! workspace cannot stop its own work from being saved by removing a permission.

use std::{
    fs::File,
    io::{self, Read, Write},
};

use rustix::io::Errno;

use super::{
    archive::{Member, MemberKind, Report, SkipReason, writer::ArchiveWriter},
    exclude::Exclusions,
};
use crate::files::{
    FileError, FileErrorKind, Root,
    directory::Directory,
    metadata::{Kind, Metadata},
    transfer::CHUNK,
    walk::{Visit, Walk},
};

/// Why a tree could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file or directory could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The archive could not be written: whoever receives it is gone.
    #[error("the archive could not be sent: {0}")]
    Output(io::Error),
}

/// Packs what is in `root`, its own entry apart, and tells `progress` after every entry and chunk.
/// Blocks.
///
/// # Errors
/// When a directory or file fails in the middle; the stream then lacks its end marker.
pub fn pack<W: Write>(
    root: &Root,
    exclusions: &Exclusions,
    output: W,
    progress: &mut dyn FnMut(&Report),
) -> Result<(W, Report), PackError> {
    let top = root.directory().reopen().map_err(|errno| {
        FileError::from_errno("open directory", &crate::files::WorkspacePath::root(), errno)
    })?;
    let mut packer = Packer {
        walk: Walk::new(top),
        archive: ArchiveWriter::new(output),
        report: Report::default(),
        buffer: vec![0; CHUNK],
        progress,
    };
    while let Some(visit) = packer.walk.next() {
        packer.visit(exclusions, visit)?;
    }
    let output = packer.archive.finish().map_err(PackError::Output)?;
    Ok((output, packer.report))
}

struct Packer<'p, W> {
    walk: Walk,
    archive: ArchiveWriter<W>,
    report: Report,
    buffer: Vec<u8>,
    progress: &'p mut dyn FnMut(&Report),
}

impl<W: Write> Packer<'_, W> {
    fn visit(
        &mut self,
        exclusions: &Exclusions,
        visit: Result<Visit, FileError>,
    ) -> Result<(), PackError> {
        let kind = match visit {
            Ok(Visit::Entry(kind)) => kind,
            Ok(Visit::Left) => return Ok(()),
            Err(error) => return self.skip_or_fail(error),
        };
        let temporary =
            self.walk.path().names().next_back().is_some_and(|name| name.is_temporary());
        if temporary || exclusions.exclude(self.walk.path(), kind) {
            return Ok(());
        }
        if let Some(reason) = SkipReason::of_special(kind) {
            return self.skip(reason);
        }
        match self.append(kind) {
            Err(PackError::File(error)) => self.skip_or_fail(error)?,
            result => result?,
        }
        (self.progress)(&self.report);
        Ok(())
    }

    fn append(&mut self, kind: Kind) -> Result<(), PackError> {
        match kind {
            Kind::Directory => self.append_directory(),
            Kind::Symlink => self.append_symlink(),
            Kind::File | Kind::Fifo | Kind::Socket | Kind::Device => self.append_file(),
        }
    }

    fn append_directory(&mut self) -> Result<(), PackError> {
        let metadata = self.examine(Directory::stat)?;
        if metadata.kind != Kind::Directory {
            return Ok(());
        }
        let member = self.member(MemberKind::Directory, &metadata);
        self.archive.append(&member).map_err(PackError::Output)?;
        self.report.directories += 1;
        Ok(self.walk.enter()?)
    }

    fn append_symlink(&mut self) -> Result<(), PackError> {
        let (metadata, target) = self
            .examine(|directory, name| Ok((directory.stat(name)?, directory.read_link(name)?)))?;
        let member = self.member(MemberKind::Symlink(target), &metadata);
        self.archive.append(&member).map_err(PackError::Output)?;
        self.report.symlinks += 1;
        Ok(())
    }

    fn append_file(&mut self) -> Result<(), PackError> {
        let (mut file, metadata) = self.examine(Directory::open_file)?;
        // Most files fit the buffer: their size is then what was read, whatever happens meanwhile.
        let first = self.fill_buffer(&mut file)?;
        let whole = first < self.buffer.len();
        let size = if whole { as_u64(first) } else { metadata.size.max(as_u64(first)) };
        let member = self.member(MemberKind::File(size), &metadata);
        if whole {
            let content = self.buffer.get(..first).unwrap_or_default();
            self.archive.append_small_file(&member, content).map_err(PackError::Output)?;
        } else {
            self.append_large(&member, size, first, file)?;
        }
        self.report.files += 1;
        self.report.bytes += size;
        Ok(())
    }

    /// Sends a file that does not fit the buffer, whose first bytes are already in it.
    fn append_large(
        &mut self,
        member: &Member,
        size: u64,
        first: usize,
        file: File,
    ) -> Result<(), PackError> {
        let start = self.buffer.get(..first).unwrap_or_default().to_vec();
        let mut content = Watched {
            inner: start.as_slice().chain(file),
            failed: false,
            before: self.report.clone(),
            progress: &mut *self.progress,
        };
        let sent = self.archive.append_file(member, size, &mut content, &mut self.buffer);
        let failed_to_read = content.failed;
        sent.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                // The header with the size is on its way, so this cannot be mended.
                PackError::Output(io::Error::other(FileError::new(
                    "pack",
                    self.walk.path(),
                    FileErrorKind::Changed,
                )))
            }
            _ if failed_to_read => PackError::Output(io::Error::other(FileError::from_io(
                "read",
                self.walk.path(),
                &error,
            ))),
            _ => PackError::Output(error),
        })
    }

    fn fill_buffer(&mut self, file: &mut File) -> Result<usize, FileError> {
        let mut filled = 0;
        while let Some(rest) = self.buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read(rest) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FileError::from_io("read", self.walk.path(), &error)),
            }
        }
        Ok(filled)
    }

    fn examine<T>(
        &self,
        operation: impl FnOnce(&Directory, crate::files::Name<'_>) -> Result<T, Errno>,
    ) -> Result<T, FileError> {
        self.walk
            .with_entry(operation)
            .map_err(|errno| FileError::from_errno("read", self.walk.path(), errno))
    }

    fn member(&self, kind: MemberKind, metadata: &Metadata) -> Member {
        Member {
            path: self.walk.path().as_bytes().to_vec(),
            kind,
            mode: metadata.mode,
            modified: metadata.modified,
        }
    }

    fn skip(&mut self, reason: SkipReason) -> Result<(), PackError> {
        let path = self.walk.path().as_bytes();
        self.report.add_skipped(path, reason);
        self.archive.append_skipped(path, reason).map_err(PackError::Output)
    }

    fn skip_or_fail(&mut self, error: FileError) -> Result<(), PackError> {
        match error.kind() {
            // Removed, or replaced by something else, since its name was read.
            FileErrorKind::NotFound
            | FileErrorKind::NotADirectory
            | FileErrorKind::IsADirectory
            | FileErrorKind::NotRegular
            | FileErrorKind::TooManyLinks => Ok(()),
            FileErrorKind::PermissionDenied => self.skip(SkipReason::Unreadable),
            FileErrorKind::TooDeep | FileErrorKind::BadPath(_) => self.skip(SkipReason::TooDeep),
            _ => Err(error.into()),
        }
    }
}

/// Content that reports how much of it went through.
struct Watched<'p, R> {
    inner: R,
    failed: bool,
    before: Report,
    progress: &'p mut dyn FnMut(&Report),
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.inner.read(buffer);
        match &result {
            Ok(length) => {
                self.before.bytes += as_u64(*length);
                (self.progress)(&self.before);
            }
            Err(_) => self.failed = true,
        }
        result
    }
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
