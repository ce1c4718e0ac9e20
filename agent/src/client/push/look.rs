//! A first look at a tree: is it so small that it is sent whole?

use std::{sync::Arc, vec};

use workspace_common::client::Endpoint;

use crate::{
    files::{FileError, Root},
    sync::manifest::{
        Entry,
        scan::{Scan, ScanOptions},
    },
};

/// How large a tree may be for sending everything to take no longer than asking first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Small {
    entries: usize,
    bytes: u64,
}

impl Small {
    /// On the way to this server. On the same machine bytes cost little, and what is known already costs
    /// the agent a look at each file either way.
    pub(super) fn over(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Unix(_) => Self { entries: 2048, bytes: 8 * 1024 * 1024 },
            Endpoint::Http(_) => Self { entries: 256, bytes: 1024 * 1024 },
        }
    }
}

/// What was seen.
pub(super) enum Looked {
    /// All of it.
    Small(Vec<Entry>),
    /// The beginning, and the rest of the scan.
    Large(Vec<Entry>, Scan),
}

/// Looks at a tree. Blocks.
pub(super) fn look(
    root: Arc<Root>,
    options: ScanOptions,
    small: Small,
) -> Result<Looked, FileError> {
    let mut scan = Scan::new(root, options);
    let (mut entries, mut bytes) = (Vec::new(), 0_u64);
    while entries.len() < small.entries && bytes <= small.bytes {
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
