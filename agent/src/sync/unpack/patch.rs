//! Making a file out of a delta and the file that is there.
//!
//! Chunks of the old file are copied by the kernel, which shares the blocks where the file system
//! can. A second thread reads each chunk back from the new file, where it has to have its hash:
//! whatever happens to the old file meanwhile, the new one is the sender's, or is not made.

use std::{
    fs::File,
    io::{self, BufRead},
    os::unix::fs::FileExt,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

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

/// What is copied at once at most, so that it is still in the processor's cache when it is read back.
const RUN: u64 = 2 * 1024 * 1024;
/// Chunks that wait to be read back.
const UNVERIFIED: usize = 32;

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
    pub(super) fn patch_file<R: BufRead>(
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
        let mut patch = Patch { archive, path, old, file, run: Run::default(), made: 0 };
        match patch.make_verified(size)? {
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
    /// Bytes of the new file so far.
    made: u64,
}

/// A chunk of the new file that is to be verified, and where it is.
type Unverified = (u64, Chunk);

/// Whether all that comes is in the file; ends at the first that is not.
fn verify(file: &File, unverified: Receiver<Unverified>) -> io::Result<bool> {
    let mut content = Vec::new();
    for (offset, chunk) in unverified {
        content.resize(length_of(chunk), 0);
        file.read_exact_at(&mut content, offset)?;
        if ContentHash::of(&content) != chunk.hash {
            return Ok(false);
        }
    }
    Ok(true)
}

impl<R: BufRead> Patch<'_, R> {
    fn make_verified(&mut self, size: u64) -> Result<Patched, UnpackError> {
        let path = self.path;
        let fail = |error| FileError::from_io("unpack", path, &error);
        let reader = self.file.reader().map_err(fail)?;
        thread::scope(|scope| {
            let (chunks, unverified) = sync_channel(UNVERIFIED);
            let verifying = thread::Builder::new()
                .name("verify".into())
                .spawn_scoped(scope, move || verify(&reader, unverified))
                .map_err(fail)?;
            let made = self.make(size, &chunks);
            drop(chunks);
            let panicked = |_panic| io::Error::other("the thread that verifies it has ended");
            let is_it = verifying.join().map_err(panicked).and_then(|read| read).map_err(fail)?;
            Ok(if is_it { made? } else { Patched::Stale })
        })
    }

    fn make(&mut self, size: u64, chunks: &SyncSender<Unverified>) -> Result<Patched, UnpackError> {
        let (mut sent, mut spared) = (0, 0);
        while let Some(head) = self.next_head()? {
            let (Head::Sent(chunk) | Head::Known(chunk)) = head;
            if sent + spared + u64::from(chunk.length) > size {
                return Err(self.bad().into());
            }
            let fits = match head {
                Head::Sent(chunk) => {
                    sent += u64::from(chunk.length);
                    self.write_run(chunks)? && self.write_sent(chunk, chunks)?
                }
                Head::Known(chunk) => {
                    spared += u64::from(chunk.length);
                    let from = self.place()?;
                    let room = self.run.takes(from, chunk) || self.write_run(chunks)?;
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
        let whole = self.write_run(chunks)?;
        Ok(if whole { Patched::Whole { sent, spared } } else { Patched::Stale })
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

    /// Writes a chunk that comes; says whether it is worth to go on.
    fn write_sent(
        &mut self,
        chunk: Chunk,
        chunks: &SyncSender<Unverified>,
    ) -> Result<bool, UnpackError> {
        let mut content = vec![0; length_of(chunk)];
        if self.fill(&mut content)? != content.len() {
            return Err(self.bad().into());
        }
        self.file.write_all(&content).map_err(|error| self.fail(&error))?;
        Ok(self.hand_over(chunk, chunks))
    }

    /// Copies what waits to be copied; says whether it is worth to go on.
    fn write_run(&mut self, chunks: &SyncSender<Unverified>) -> Result<bool, UnpackError> {
        let run = std::mem::take(&mut self.run);
        let copied = self.file.copy_from(&self.old, run.from, run.length);
        let all = copied.map_err(|error| self.fail(&error))? == run.length;
        Ok(all && run.chunks.into_iter().all(|chunk| self.hand_over(chunk, chunks)))
    }

    /// Has a chunk verified that is written; says whether those before were what they have to be.
    fn hand_over(&mut self, chunk: Chunk, chunks: &SyncSender<Unverified>) -> bool {
        let offset = self.made;
        self.made += u64::from(chunk.length);
        chunks.send((offset, chunk)).is_ok()
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

    fn fail(&self, error: &io::Error) -> FileError {
        FileError::from_io("unpack", self.path, error)
    }
}

/// Heads are only read with lengths that fit.
fn length_of(chunk: Chunk) -> usize {
    usize::try_from(chunk.length).unwrap_or(MAX_CHUNK)
}
