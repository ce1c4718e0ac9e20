//! A first look at a tree: is it so small that it is sent whole?

use std::{sync::Arc, vec};

use crate::{
    files::{FileError, Root},
    sync::manifest::{
        Entry,
        scan::{Scan, ScanOptions},
    },
};

/// Up to so many entries and bytes, sending everything takes no longer than asking first.
const SMALL_ENTRIES: usize = 256;
const SMALL_BYTES: u64 = 1024 * 1024;

/// What was seen.
pub(super) enum Looked {
    /// All of it.
    Small(Vec<Entry>),
    /// The beginning, and the rest of the scan.
    Large(Vec<Entry>, Scan),
}

/// Looks at a tree. Blocks.
pub(super) fn look(root: Arc<Root>, options: ScanOptions) -> Result<Looked, FileError> {
    let mut scan = Scan::new(root, options);
    let (mut entries, mut bytes) = (Vec::new(), 0_u64);
    while entries.len() < SMALL_ENTRIES && bytes <= SMALL_BYTES {
        match scan.next().transpose()? {
            Some(entry) => {
                bytes = bytes.saturating_add(entry.node.size());
                entries.push(entry);
            }
            None => return Ok(Looked::Small(entries)),
        }
    }
    Ok(Looked::Large(entries, scan))
}

/// Entries seen, then those still to come.
pub(super) type Entries = std::iter::Chain<
    std::iter::Map<vec::IntoIter<Entry>, fn(Entry) -> Result<Entry, FileError>>,
    std::iter::Flatten<std::option::IntoIter<Scan>>,
>;

impl Looked {
    pub(super) fn into_entries(self) -> Entries {
        let (seen, rest) = match self {
            Self::Small(entries) => (entries, None),
            Self::Large(entries, scan) => (entries, Some(scan)),
        };
        let ok: fn(Entry) -> Result<Entry, FileError> = Ok;
        seen.into_iter().map(ok).chain(rest.into_iter().flatten())
    }
}
