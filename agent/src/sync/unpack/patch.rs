//! Making a file out of a delta and the file that is there.
//!
//! Chunks of the old file are copied by the kernel, which shares the blocks where the file system
//! can; then each chunk is read back from the new file and has to have its hash. Whatever happens to
//! the old file meanwhile, the new one is the sender's, or is not made.

use std::{fs::File, io::Read};

use super::Unpacker;
use crate::{
    files::{FileError, WorkspacePath, directory::Directory, path::Name, temporary::TemporaryFile},
    sync::{
        archive::{ArchiveFault, Member, ReadError, reader::ArchiveReader},
        delta::{
            Chunk,
            chunker::MAX_CHUNK,
            step::{HEAD, Head, PLACE},
        },
        manifest::hash::ContentHash,
        unpack::UnpackError,
    },
};

/// What is copied before it is read back, so that it is still in the processor's cache.
const RUN: u64 = 2 * 1024 * 1024;

/// What came of a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patched {
    /// The file is whole; so many bytes of it came out of the old one.
    Whole { sent: u64, spared: u64 },
    /// The old file is not what the delta was made for.
    Stale,
}

impl Unpacker<'_> {
    /// Replaces a file by what a delta makes of it, or notes that the delta does not fit.
    pub(super) fn patch_file<R: Read>(
        &mut self,
        archive: &mut ArchiveReader<R>,
        (member, size): (&Member, u64),
        path: &WorkspacePath,
        (parent, name): (&Directory, Name<'_>),
    ) -> Result<(), UnpackError> {
        let fail = |errno| FileError::from_errno("unpack", path, errno);
        let Ok((old, _)) = parent.open_file(name) else {
            self.note_stale(path);
            return Ok(());
        };
        let file = TemporaryFile::create(parent).map_err(fail)?;
        let mut patch =
            Patch { archive, path, old, file, run: Run::default(), made: 0, chunk: Vec::new() };
        match patch.make(size)? {
            Patched::Stale => self.note_stale(path),
            Patched::Whole { sent, spared } => {
                let file = patch.file;
                file.set_mode(member.mode).map_err(fail)?;
                file.set_modified(member.modified).map_err(fail)?;
                file.publish(name).map_err(fail)?;
                let report = &mut self.done.report;
                report.files += 1;
                report.bytes += sent;
                report.spared += spared;
            }
        }
        Ok(())
    }

    fn note_stale(&mut self, path: &WorkspacePath) {
        self.done.report.add_stale(path.as_bytes());
    }
}

/// Chunks that follow each other in the old file, as in the new one.
#[derive(Debug, Default)]
struct Run {
    from: u64,
    length: u64,
    chunks: Vec<Chunk>,
}

impl Run {
    fn takes(&self, from: u64, chunk: Chunk) -> bool {
        let follows = self.from.checked_add(self.length) == Some(from);
        self.chunks.is_empty() || (follows && self.length + u64::from(chunk.length) <= RUN)
    }

    fn push(&mut self, from: u64, chunk: Chunk) {
        if self.chunks.is_empty() {
            self.from = from;
        }
        self.length += u64::from(chunk.length);
        self.chunks.push(chunk);
    }
}

struct Patch<'p, R> {
    archive: &'p mut ArchiveReader<R>,
    path: &'p WorkspacePath,
    old: File,
    file: TemporaryFile<'p>,
    run: Run,
    /// Bytes of the new file that are made and verified.
    made: u64,
    chunk: Vec<u8>,
}

impl<R: Read> Patch<'_, R> {
    fn make(&mut self, size: u64) -> Result<Patched, UnpackError> {
        let (mut sent, mut spared) = (0, 0);
        while let Some(head) = self.next_head()? {
            let (Head::Sent(chunk) | Head::Known(chunk)) = head;
            if sent + spared + u64::from(chunk.length) > size {
                return Err(self.bad().into());
            }
            let fits = match head {
                Head::Sent(chunk) => {
                    sent += u64::from(chunk.length);
                    self.write_run()? && self.write_sent(chunk)?
                }
                Head::Known(chunk) => {
                    spared += u64::from(chunk.length);
                    let from = self.place()?;
                    let room = self.run.takes(from, chunk) || self.write_run()?;
                    self.run.push(from, chunk);
                    room
                }
            };
            if !fits {
                return Ok(Patched::Stale);
            }
        }
        if sent + spared != size {
            return Err(self.bad().into());
        }
        Ok(if self.write_run()? { Patched::Whole { sent, spared } } else { Patched::Stale })
    }

    fn next_head(&mut self) -> Result<Option<Head>, ReadError> {
        let mut head = [0; HEAD];
        match self.fill(&mut head)? {
            0 => Ok(None),
            HEAD => Head::parse(&head).map(Some).ok_or_else(|| self.bad()),
            _ => Err(self.bad()),
        }
    }

    fn place(&mut self) -> Result<u64, ReadError> {
        let mut place = [0; PLACE];
        match self.fill(&mut place)? {
            PLACE => Ok(u64::from_be_bytes(place)),
            _ => Err(self.bad()),
        }
    }

    /// Writes a chunk that comes; says whether it is what its hash says.
    fn write_sent(&mut self, chunk: Chunk) -> Result<bool, UnpackError> {
        let length = length_of(chunk);
        let mut content = std::mem::take(&mut self.chunk);
        content.resize(length, 0);
        if self.fill(&mut content)? != length {
            return Err(self.bad().into());
        }
        self.file.write_all(&content).map_err(|error| self.fail(&error))?;
        self.made += u64::from(chunk.length);
        let is_it = ContentHash::of(&content) == chunk.hash;
        self.chunk = content;
        Ok(is_it)
    }

    /// Copies what waits to be copied; says whether it is what its hashes say.
    fn write_run(&mut self) -> Result<bool, UnpackError> {
        let run = std::mem::take(&mut self.run);
        let copied = self.file.copy_from(&self.old, run.from, run.length);
        if copied.map_err(|error| self.fail(&error))? != run.length {
            return Ok(false);
        }
        for chunk in run.chunks {
            self.chunk.resize(length_of(chunk), 0);
            let read = self.file.read_back(&mut self.chunk, self.made);
            read.map_err(|error| self.fail(&error))?;
            self.made += u64::from(chunk.length);
            if ContentHash::of(&self.chunk) != chunk.hash {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.archive.read_content(rest)? {
                0 => break,
                length => filled += length,
            }
        }
        Ok(filled)
    }

    fn bad(&self) -> ReadError {
        ReadError::refused(self.path.as_bytes(), ArchiveFault::BadDelta)
    }

    fn fail(&self, error: &std::io::Error) -> FileError {
        FileError::from_io("unpack", self.path, error)
    }
}

/// Heads are only read with lengths that fit.
fn length_of(chunk: Chunk) -> usize {
    usize::try_from(chunk.length).unwrap_or(MAX_CHUNK)
}
