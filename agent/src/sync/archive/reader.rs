//! Reading a tar stream whose sender is not trusted, member by member.
//!
//! Everything that could make two programs see different archives, or ours use memory at the
//! sender's will, is refused: damaged headers, extended headers that are too large, hard links,
//! sparse files, devices, content where none belongs. Names come out as they are; judging them is
//! the caller's.

use std::io::{BufRead, Read};

use tar::{EntryType, Header};

use super::{
    ArchiveFault, BLOCK, DEFERRED_KEY, DELTA_KEY, KEPT_KEY, Member, MemberKind, REMOVED_KEY,
    ReadError, SKIPPED_KEY, SPARSE_KEY, SkipReason, number,
};
use crate::{
    files::{
        metadata::{FileTime, PERMISSION_BITS},
        path::{MAX_PATH, printable},
    },
    sync::pax,
};

/// Largest extended header. Real ones hold a few paths, and perhaps attributes of a file.
const MAX_EXTENSION: u64 = 256 * 1024;

/// What comes next in an archive.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// A member. A file's content follows through [`ArchiveReader::content`].
    Member(Member),
    /// A note of the sender about an entry that is not there.
    Skipped(Vec<u8>, SkipReason),
    /// A note of the sender about an entry that it has no more; the name is not yet judged.
    Removed(Vec<u8>),
    /// A note of the sender about a large file that it keeps back; the name is not yet judged.
    Deferred(Vec<u8>),
}

/// A tar stream being read.
#[derive(Debug)]
pub struct ArchiveReader<R> {
    input: R,
    /// Content of the current member that is still in the stream.
    left: u64,
    /// Padding behind it.
    padding: u64,
    /// The name of the last member, for messages.
    last: Vec<u8>,
}

/// What the extended headers before a member say about it.
#[derive(Debug, Default)]
struct Extension {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    modified: Option<FileTime>,
    kept: bool,
    /// The size of the file that a delta makes.
    delta: Option<u64>,
    sparse: bool,
}

impl Extension {
    /// What a regular file is, with `size` bytes in the archive.
    fn kind_of_file(&self, size: u64) -> MemberKind {
        match (self.kept, self.delta, self.sparse) {
            (true, _, _) => MemberKind::Kept,
            (false, Some(whole), _) => MemberKind::Delta { size: whole, encoded: size },
            (false, None, true) => MemberKind::Sparse(size),
            (false, None, false) => MemberKind::File(size),
        }
    }
}

fn has_content(kind: &MemberKind) -> bool {
    match kind {
        MemberKind::File(_) | MemberKind::Sparse(_) | MemberKind::Delta { .. } => true,
        MemberKind::Kept | MemberKind::Directory | MemberKind::Symlink(_) => false,
    }
}

impl<R: BufRead> ArchiveReader<R> {
    /// Starts to read an archive.
    pub fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0, last: Vec::new() }
    }

    /// The next member or note; `None` after the end-of-archive marker. Content that was not read
    /// is passed over.
    ///
    /// # Errors
    /// When the archive is refused, cut, or cannot be received. There is no going on after that.
    pub fn next_item(&mut self) -> Result<Option<Item>, ReadError> {
        let mut extension = Extension::default();
        loop {
            self.skip_content()?;
            let Some(header) = self.read_header()? else { return Ok(None) };
            let entry_type = header.entry_type();
            match entry_type {
                EntryType::XHeader => self.read_records(&header, &mut extension)?,
                EntryType::GNULongName => {
                    extension.path = Some(self.read_long_name(&header)?);
                }
                EntryType::GNULongLink => {
                    extension.target = Some(self.read_long_name(&header)?);
                }
                EntryType::XGlobalHeader => {
                    if let Some(note) = self.read_global(&header)? {
                        return Ok(Some(note));
                    }
                }
                _ => return self.start_member(&header, extension).map(Some),
            }
        }
    }

    /// Reads content of the current file; zero bytes at its end.
    ///
    /// # Errors
    /// When the stream is cut or fails.
    pub fn read_content(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let length =
            self.content()?.read(buffer).map_err(|error| ReadError::stream(&self.last, error))?;
        self.consume(length);
        Ok(length)
    }

    /// What has come of the current file's content; nothing at its end. What was used of it is to be
    /// [consumed](Self::consume).
    ///
    /// # Errors
    /// When the stream is cut or fails.
    pub fn content(&mut self) -> Result<&[u8], ReadError> {
        if self.left == 0 {
            return Ok(&[]);
        }
        match self.input.fill_buf() {
            Ok([]) => Err(ReadError::Truncated(printable(&self.last))),
            Ok(there) => {
                let limit =
                    usize::try_from(self.left).map_or(there.len(), |left| left.min(there.len()));
                Ok(there.get(..limit).unwrap_or_default())
            }
            Err(error) => Err(ReadError::stream(&self.last, error)),
        }
    }

    /// Passes over content that was used.
    pub fn consume(&mut self, length: usize) {
        self.input.consume(length);
        self.left -= u64::try_from(length).unwrap_or(self.left);
    }

    fn refused(&self, fault: impl Into<ArchiveFault>) -> ReadError {
        ReadError::refused(&self.last, fault)
    }

    fn skip_content(&mut self) -> Result<(), ReadError> {
        self.left = self.left.saturating_add(std::mem::take(&mut self.padding));
        while self.left > 0 {
            let length = self.content()?.len();
            self.consume(length);
        }
        Ok(())
    }

    fn read_block(&mut self) -> Result<[u8; BLOCK], ReadError> {
        let mut block = [0; BLOCK];
        self.input.read_exact(&mut block).map_err(|error| ReadError::stream(&self.last, error))?;
        Ok(block)
    }

    /// The next header, or `None` at the marker: two blocks of zeros.
    fn read_header(&mut self) -> Result<Option<Header>, ReadError> {
        let block = self.read_block()?;
        if block == [0; BLOCK] {
            let marked = self.read_block()? == [0; BLOCK];
            return if marked { Ok(None) } else { Err(self.refused(ArchiveFault::BadHeader)) };
        }
        let header = Header::from_byte_slice(&block).clone();
        let name = header.path_bytes();
        if !name.is_empty() {
            self.last = name.into_owned();
        }
        if header.cksum().ok() != Some(checksum(&block)) {
            return Err(self.refused(ArchiveFault::BadHeader));
        }
        Ok(Some(header))
    }

    fn expect_content(&mut self, size: u64) -> Result<(), ReadError> {
        // No file is larger than what an offset can say (lseek(2)).
        let end = size.checked_next_multiple_of(512).filter(|end| i64::try_from(*end).is_ok());
        let end = end.ok_or_else(|| self.refused(ArchiveFault::BadHeader))?;
        self.left = size;
        self.padding = end - size;
        Ok(())
    }

    fn header_size(&self, header: &Header) -> Result<u64, ReadError> {
        let size = number::parse(&header.as_old().size);
        let size = size.and_then(|size| u64::try_from(size).ok());
        size.ok_or_else(|| self.refused(ArchiveFault::BadHeader))
    }

    fn read_extension(&mut self, header: &Header) -> Result<Vec<u8>, ReadError> {
        let size = self.header_size(header)?;
        if size > MAX_EXTENSION {
            return Err(self.refused(ArchiveFault::OversizeHeader));
        }
        self.expect_content(size)?;
        let mut content = Vec::new();
        while self.left > 0 {
            let part = self.content()?;
            content.extend_from_slice(part);
            let length = part.len();
            self.consume(length);
        }
        Ok(content)
    }

    fn read_long_name(&mut self, header: &Header) -> Result<Vec<u8>, ReadError> {
        let mut name = self.read_extension(header)?;
        // GNU tar ends it with a NUL.
        if name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    fn read_records(
        &mut self,
        header: &Header,
        extension: &mut Extension,
    ) -> Result<(), ReadError> {
        let block = self.read_extension(header)?;
        for record in pax::parse(&block).map_err(|error| self.refused(error))? {
            let bad = || self.refused(ArchiveFault::BadValue(printable(record.key)));
            match record.key {
                b"path" => extension.path = Some(record.value.to_vec()),
                b"linkpath" => extension.target = Some(record.value.to_vec()),
                b"size" => {
                    extension.size = Some(pax::parse_number(record.value).ok_or_else(bad)?);
                }
                b"mtime" => {
                    extension.modified = Some(pax::parse_time(record.value).ok_or_else(bad)?);
                }
                key if key == KEPT_KEY.as_bytes() => extension.kept = true,
                key if key == DELTA_KEY.as_bytes() => {
                    extension.delta = Some(pax::parse_number(record.value).ok_or_else(bad)?);
                }
                key if key == SPARSE_KEY.as_bytes() => extension.sparse = true,
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(self.refused(ArchiveFault::Sparse));
                }
                // Owners, access times, attributes: not kept, see the module of unpacking.
                _ => {}
            }
        }
        Ok(())
    }

    fn read_global(&mut self, header: &Header) -> Result<Option<Item>, ReadError> {
        let block = self.read_extension(header)?;
        let mut note = None;
        for record in pax::parse(&block).map_err(|error| self.refused(error))? {
            match record.key {
                key if key == SKIPPED_KEY.as_bytes() => {
                    let mut words = record.value.splitn(2, |byte| *byte == b' ');
                    let reason = words.next().and_then(SkipReason::parse);
                    let path = words.next().unwrap_or_default().to_vec();
                    note = reason.map(|reason| Item::Skipped(path, reason));
                }
                key if key == REMOVED_KEY.as_bytes() => {
                    note = Some(Item::Removed(record.value.to_vec()));
                }
                key if key == DEFERRED_KEY.as_bytes() => {
                    note = Some(Item::Deferred(record.value.to_vec()));
                }
                // These would change every member that follows.
                b"path" | b"linkpath" | b"size" => {
                    return Err(self.refused(ArchiveFault::BadValue(printable(record.key))));
                }
                _ => {}
            }
        }
        Ok(note)
    }

    fn start_member(
        &mut self,
        header: &Header,
        mut extension: Extension,
    ) -> Result<Item, ReadError> {
        let path = extension.path.take().unwrap_or_else(|| header.path_bytes().into_owned());
        self.last.clone_from(&path);
        let bad = || ReadError::refused(&path, ArchiveFault::BadHeader);
        let size = match extension.size {
            Some(size) => size,
            None => self.header_size(header)?,
        };
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => {
                MemberKind::Directory
            }
            EntryType::Regular | EntryType::Continuous => extension.kind_of_file(size),
            EntryType::Directory => MemberKind::Directory,
            EntryType::Symlink => {
                let target = extension
                    .target
                    .take()
                    .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
                MemberKind::Symlink(self.checked_target(target.unwrap_or_default())?)
            }
            other => return Err(self.refused(unsupported(other))),
        };
        if size > 0 && !has_content(&kind) {
            return Err(self.refused(ArchiveFault::UnexpectedContent));
        }
        let modified = match extension.modified {
            Some(modified) => modified,
            None => header_time(number::parse(&header.as_old().mtime).ok_or_else(bad)?),
        };
        let mode = number::parse(&header.as_old().mode).ok_or_else(bad)?;
        let mode = u32::try_from(mode & i64::from(PERMISSION_BITS)).unwrap_or(0);
        self.expect_content(size)?;
        Ok(Item::Member(Member { path, kind, mode, modified }))
    }

    fn checked_target(&self, target: Vec<u8>) -> Result<Vec<u8>, ReadError> {
        if target.is_empty() || target.len() > MAX_PATH || target.contains(&0) {
            return Err(self.refused(ArchiveFault::BadTarget));
        }
        Ok(target)
    }
}

fn header_time(seconds: i64) -> FileTime {
    FileTime { seconds, nanoseconds: 0 }
}

fn unsupported(entry_type: EntryType) -> ArchiveFault {
    match entry_type {
        EntryType::Link => ArchiveFault::HardLink,
        EntryType::Char | EntryType::Block | EntryType::Fifo => ArchiveFault::Special,
        EntryType::GNUSparse => ArchiveFault::Sparse,
        other => ArchiveFault::UnknownType(char::from(other.as_byte())),
    }
}

/// The sum of the block's bytes, those of the sum itself counted as spaces (POSIX ustar).
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let bytes = block.iter().enumerate();
    bytes.map(|(at, byte)| u32::from(if (148..156).contains(&at) { b' ' } else { *byte })).sum()
}
