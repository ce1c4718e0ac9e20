//! The tar stream that trees travel in: what is in it, how it is limited, and why it is refused.
//!
//! It is POSIX pax, so that `tar` can make and read it. [`reader`] and [`writer`] know the format
//! and nothing of file systems; header blocks themselves are encoded and decoded by the tar crate.
//! Its own iteration is not used: it takes an end of input for the end of the archive, so that a
//! cut stream looks whole, and reads extended headers of any size into memory.

pub mod reader;
pub mod writer;

use std::io;

use serde::{Deserialize, Serialize};

use super::pax::MalformedRecord;
use crate::files::{
    metadata::{FileTime, Kind},
    path::{PathError, printable},
};

/// Bytes of a block, the unit of the format.
pub const BLOCK: usize = 512;
/// Our own keyword in global headers: an entry that the sender left out, as `KIND PATH`. Other
/// programs ignore keywords of vendors.
pub const SKIPPED_KEY: &str = "WORKSPACE.skipped";
/// Our own keyword in global headers: an entry that the sender has no more, and the receiver is to
/// remove if it was asked to.
pub const REMOVED_KEY: &str = "WORKSPACE.removed";
/// Our own keyword in extended headers: the receiver has the content of this file already, and what
/// is sent is its mode and time.
pub const KEPT_KEY: &str = "WORKSPACE.kept";
/// Our own keyword in extended headers: the file has holes, so long zeros are to become holes again.
pub const SPARSE_KEY: &str = "WORKSPACE.sparse";
/// Skipped entries that are kept by name; beyond it they are only counted.
pub const MAX_SKIPPED_NAMES: usize = 1000;

/// One member of an archive, its content apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The name as it is in the archive, not yet judged.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// Permission bits.
    pub mode: u32,
    /// Last change of the content.
    pub modified: FileTime,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file of this many bytes.
    File(u64),
    /// A regular file with holes, of this many bytes with them.
    Sparse(u64),
    /// A regular file whose content the receiver has already.
    Kept,
    /// A directory.
    Directory,
    /// A link with this target.
    Symlink(Vec<u8>),
}

/// Why an archive, or a member of it, is refused.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveFault {
    /// The name is not a path of the workspace.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A hard link.
    #[error("it is a hard link; pack hard-linked files as copies (tar --hard-dereference)")]
    HardLink,
    /// A device or FIFO.
    #[error("it is a device or FIFO, which are never made from an archive")]
    Special,
    /// A sparse file in one of GNU's forms.
    #[error("it is packed as a sparse file; pack it plainly (tar without --sparse)")]
    Sparse,
    /// A type of member that is not known.
    #[error("it is of the unknown type {0:?}")]
    UnknownType(char),
    /// The same name came before.
    #[error("the archive contains it twice")]
    Duplicate,
    /// A note of a removal, in an archive that is to be unpacked plainly.
    #[error("it is a note to remove an entry, which nobody asked for here")]
    Removal,
    /// A directory or link that has content.
    #[error("it is a directory or link, and yet has content")]
    UnexpectedContent,
    /// The target of a link is empty, too long, or contains NUL.
    #[error("the target of the link is empty, longer than 4095 bytes, or contains a NUL byte")]
    BadTarget,
    /// The header block does not check.
    #[error("its header is damaged")]
    BadHeader,
    /// The extended header does not parse.
    #[error(transparent)]
    BadRecord(#[from] MalformedRecord),
    /// A value in the extended header does not parse, or may not be there.
    #[error("its extended header has an unacceptable '{0}'")]
    BadValue(String),
    /// An extended header that is larger than any real one.
    #[error("its extended header is larger than 256 KiB")]
    OversizeHeader,
}

/// Why an archive could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A member is refused.
    #[error("the archive's entry '{entry}' is not acceptable: {fault}")]
    Refused {
        /// Its name, as far as it is known, fit for printing.
        entry: String,
        /// Why.
        fault: ArchiveFault,
    },
    /// The stream ended before the end-of-archive marker.
    #[error(
        "the archive ends before its end marker: the transfer was cut; the last entry was '{0}'"
    )]
    Truncated(String),
    /// The stream failed.
    #[error("the archive could not be received: {0}")]
    Stream(io::Error),
}

impl ReadError {
    pub(super) fn refused(entry: &[u8], fault: impl Into<ArchiveFault>) -> Self {
        Self::Refused { entry: printable(entry), fault: fault.into() }
    }

    pub(super) fn stream(entry: &[u8], error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated(printable(entry)),
            _ => Self::Stream(error),
        }
    }
}

/// Why an entry is not in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// A named pipe.
    Fifo,
    /// A Unix domain socket.
    Socket,
    /// A character or block device.
    Device,
    /// The permissions do not let the sender read it.
    Unreadable,
    /// Its path is too long, or too deep, to be carried.
    TooDeep,
}

impl SkipReason {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Fifo, "fifo"),
        (Self::Socket, "socket"),
        (Self::Device, "device"),
        (Self::Unreadable, "unreadable"),
        (Self::TooDeep, "too_deep"),
    ];

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(reason, _)| *reason == self).map_or("", |(_, word)| word)
    }

    /// Reads the word.
    pub fn parse(word: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| known.as_bytes() == word).map(|(reason, _)| reason)
    }

    /// Whether content is missing that could have been transferred, so that the copy is partial.
    pub fn loses_content(self) -> bool {
        matches!(self, Self::Unreadable | Self::TooDeep)
    }

    /// The reason for what is never transferred.
    pub fn of_special(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Fifo => Some(Self::Fifo),
            Kind::Socket => Some(Self::Socket),
            Kind::Device => Some(Self::Device),
            Kind::File | Kind::Directory | Kind::Symlink => None,
        }
    }
}

/// An entry that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its path, fit for printing.
    pub path: String,
    /// What it is, or why it could not be read.
    pub kind: SkipReason,
}

/// What a transfer moved.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Links.
    pub symlinks: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Files that the receiver had already, content, mode and time; they are not counted elsewhere.
    #[serde(default)]
    pub unchanged: u64,
    /// Files whose content the receiver had already, and whose mode or time was set.
    #[serde(default)]
    pub touched: u64,
    /// Entries that were removed.
    #[serde(default)]
    pub removed: u64,
    /// Entries that were left out, the first thousand of them.
    pub skipped: Vec<Skipped>,
    /// How many were left out altogether.
    pub skipped_total: u64,
}

impl Report {
    pub(super) fn add_skipped(&mut self, path: &[u8], kind: SkipReason) {
        self.skipped_total += 1;
        if self.skipped.len() < MAX_SKIPPED_NAMES {
            self.skipped.push(Skipped { path: printable(path), kind });
        }
    }

    /// Everything but directories, links and skipped entries; for limits and progress.
    pub fn entries(&self) -> u64 {
        self.files + self.directories + self.symlinks + self.touched
    }
}
