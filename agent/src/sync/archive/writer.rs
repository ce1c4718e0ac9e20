//! Writing a tar stream, member by member.

use std::{
    fs::File,
    io::{self, Write},
};

use tar::{EntryType, Header};

use super::{
    BLOCK, DEFERRED_KEY, DELTA_KEY, KEPT_KEY, Member, MemberKind, REMOVED_KEY, SKIPPED_KEY,
    SPARSE_KEY, SkipReason,
};
use crate::{
    files::{
        metadata::FileTime,
        transfer::{TakeError, TakeFile},
    },
    sync::pax,
};

/// The largest number that eleven octal digits hold.
const MAX_OCTAL: u64 = 0o777_7777_7777;

/// A tar stream under way.
#[derive(Debug)]
pub struct ArchiveWriter<W> {
    output: W,
}

impl<W: Write> ArchiveWriter<W> {
    /// Starts an archive.
    pub fn new(output: W) -> Self {
        Self { output }
    }

    /// Writes a member without its content: a directory, a link, a file that the receiver has, or one
    /// whose content follows.
    ///
    /// # Errors
    /// What the output says.
    pub fn append(&mut self, member: &Member) -> io::Result<()> {
        self.write_header(member)
    }

    /// Writes a file whose content is at hand; the member says its length.
    ///
    /// # Errors
    /// What the output says.
    pub fn append_small_file(&mut self, member: &Member, content: &[u8]) -> io::Result<()> {
        self.write_header(member)?;
        self.output.write_all(content)?;
        self.pad(u64::try_from(content.len()).unwrap_or(u64::MAX))
    }

    /// Notes an entry that is left out.
    ///
    /// # Errors
    /// What the output says.
    pub fn append_skipped(&mut self, path: &[u8], reason: SkipReason) -> io::Result<()> {
        let value = [reason.as_str().as_bytes(), b" ", path].concat();
        self.write_note(SKIPPED_KEY, &value)
    }

    /// Notes an entry that the receiver is to remove.
    ///
    /// # Errors
    /// What the output says.
    pub fn append_removed(&mut self, path: &[u8]) -> io::Result<()> {
        self.write_note(REMOVED_KEY, path)
    }

    /// Notes a file that the receiver may ask for.
    ///
    /// # Errors
    /// What the output says.
    pub fn append_deferred(&mut self, path: &[u8]) -> io::Result<()> {
        self.write_note(DEFERRED_KEY, path)
    }

    fn write_note(&mut self, key: &str, value: &[u8]) -> io::Result<()> {
        let mut block = Vec::new();
        pax::append(&mut block, key, value);
        self.write_extension(EntryType::XGlobalHeader, &block)
    }

    /// Writes the end-of-archive marker, the proof that nothing is missing.
    ///
    /// # Errors
    /// What the output says.
    pub fn finish(mut self) -> io::Result<W> {
        self.output.write_all(&[0; 2 * BLOCK])?;
        Ok(self.output)
    }

    fn write_header(&mut self, member: &Member) -> io::Result<()> {
        let mut header = Header::new_ustar();
        let mut records = Vec::new();
        let (entry_type, size, target): (_, u64, &[u8]) = match &member.kind {
            MemberKind::File(size) | MemberKind::Sparse(size) => (EntryType::Regular, *size, b""),
            MemberKind::Delta { encoded, .. } => (EntryType::Regular, *encoded, b""),
            MemberKind::Kept => (EntryType::Regular, 0, b""),
            MemberKind::Directory => (EntryType::Directory, 0, b""),
            MemberKind::Symlink(target) => (EntryType::Symlink, 0, target),
        };
        match &member.kind {
            MemberKind::Kept => pax::append(&mut records, KEPT_KEY, b"1"),
            MemberKind::Delta { size, .. } => {
                pax::append(&mut records, DELTA_KEY, size.to_string().as_bytes());
            }
            MemberKind::Sparse(_) => pax::append(&mut records, SPARSE_KEY, b"1"),
            MemberKind::File(_) | MemberKind::Directory | MemberKind::Symlink(_) => {}
        }
        let mut name = member.path.clone();
        if entry_type == EntryType::Directory {
            name.push(b'/');
        }
        let fields = header.as_old_mut();
        put_text(&mut fields.name, &name, "path", &mut records);
        put_text(&mut fields.linkname, target, "linkpath", &mut records);
        header.set_entry_type(entry_type);
        header.set_mode(member.mode);
        // Owners are not carried: what arrives belongs to whoever unpacks it.
        header.set_uid(0);
        header.set_gid(0);
        put_number(&mut header, size, &mut records);
        put_time(&mut header, member.modified, &mut records);
        header.set_cksum();
        if !records.is_empty() {
            self.write_extension(EntryType::XHeader, &records)?;
        }
        self.output.write_all(header.as_bytes())
    }

    fn write_extension(&mut self, entry_type: EntryType, block: &[u8]) -> io::Result<()> {
        let mut header = Header::new_ustar();
        let size = u64::try_from(block.len()).unwrap_or(u64::MAX);
        let mut unused = Vec::new();
        put_text(&mut header.as_old_mut().name, b"PaxHeaders/entry", "path", &mut unused);
        header.set_entry_type(entry_type);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.output.write_all(header.as_bytes())?;
        self.output.write_all(block)?;
        self.pad(size)
    }

    /// Writes content of the member before, in pieces; [`ArchiveWriter::pad`] ends it.
    ///
    /// # Errors
    /// What the output says.
    pub fn write_content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes)
    }

    /// Writes content of the member before out of a file, at most `limit` bytes; says how many.
    ///
    /// # Errors
    /// Which side failed, and why.
    pub fn write_from(&mut self, file: &File, limit: u64) -> Result<usize, TakeError>
    where
        W: TakeFile,
    {
        self.output.take_file(file, limit)
    }

    /// Passes on what the output holds back.
    ///
    /// # Errors
    /// What the output says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }

    /// Fills the last block of a content of this size.
    ///
    /// # Errors
    /// What the output says.
    pub fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = size.next_multiple_of(512) - size;
        let zeros = [0; BLOCK];
        let padding = usize::try_from(padding).unwrap_or(0);
        self.output.write_all(zeros.get(..padding).unwrap_or_default())
    }
}

/// Puts a name into its field, or into a record where it does not fit or is not plain ASCII. Raw
/// bytes are declared as such, as POSIX wants it.
fn put_text(field: &mut [u8; 100], text: &[u8], key: &str, records: &mut Vec<u8>) {
    for (target, byte) in field.iter_mut().zip(text) {
        *target = *byte;
    }
    if text.len() <= field.len() && text.is_ascii() {
        return;
    }
    if std::str::from_utf8(text).is_err() {
        pax::append(records, "hdrcharset", b"BINARY");
    }
    pax::append(records, key, text);
}

fn put_number(header: &mut Header, size: u64, records: &mut Vec<u8>) {
    header.set_size(size.min(MAX_OCTAL));
    if size > MAX_OCTAL {
        pax::append(records, "size", size.to_string().as_bytes());
    }
}

fn put_time(header: &mut Header, time: FileTime, records: &mut Vec<u8>) {
    let seconds = u64::try_from(time.seconds).unwrap_or(0).min(MAX_OCTAL);
    header.set_mtime(seconds);
    if time.nanoseconds != 0 || i64::try_from(seconds) != Ok(time.seconds) {
        pax::append(records, "mtime", pax::format_time(time).as_bytes());
    }
}
