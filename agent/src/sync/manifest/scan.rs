//! The manifest of a directory tree, made in its order by a few threads.
//!
//! The caller walks; helpers read the directories that come next ahead of it. What they have read
//! and nobody has asked for yet is bounded, so memory grows with the largest directory and the depth
//! and not with the tree. Every directory is opened anew from the root, links refused: a link that is
//! put in the place of a directory meanwhile is not followed, and no descriptor is held.

mod ahead;
mod read;

use std::{sync::Arc, vec};

use super::{Entry, Node};
use crate::{
    files::{FileError, FileErrorKind, Root, WorkspacePath, metadata::FileTime},
    sync::{archive::SkipReason, exclude::Exclusions},
};
use ahead::Ahead;

/// What is looked at.
#[derive(Debug, Clone)]
pub struct ScanOptions {
    /// What is left out.
    pub exclusions: Exclusions,
    /// Whether the content of files is read, and its hash given.
    pub hashes: bool,
}

/// A scan under way: gives the entries in the order of manifests.
#[derive(Debug)]
pub struct Scan {
    ahead: Ahead,
    levels: Vec<vec::IntoIter<Entry>>,
    /// Where the scan has yet to start; the top is read when it is first asked for an entry.
    start: Option<WorkspacePath>,
}

impl Scan {
    /// Starts to scan what is in `root`, whose own entry is not given.
    pub fn new(root: Arc<Root>, options: ScanOptions) -> Self {
        Self::beneath(root, options, WorkspacePath::root())
    }

    /// Starts to scan what is in the directory `top` of `root`; paths stay those from the root.
    pub fn beneath(root: Arc<Root>, options: ScanOptions, top: WorkspacePath) -> Self {
        Self { ahead: Ahead::new(root, options), levels: Vec::new(), start: Some(top) }
    }

    /// Reads a directory and makes its entries those that come next.
    fn enter(&mut self, directory: &WorkspacePath) -> Result<Option<Entry>, FileError> {
        match self.ahead.take(directory) {
            Ok(listing) => {
                self.ahead.want(&listing);
                self.levels.push(listing.into_iter());
                Ok(None)
            }
            Err(error) => unread(directory, error).map(Some),
        }
    }
}

impl Iterator for Scan {
    type Item = Result<Entry, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(top) = self.start.take()
            && let Some(entry) = self.enter(&top).transpose()
        {
            return Some(entry);
        }
        let entry = loop {
            match self.levels.last_mut()?.next() {
                Some(entry) => break entry,
                None => self.levels.pop(),
            };
        };
        if entry.node != Node::Directory {
            return Some(Ok(entry));
        }
        Some(self.enter(&entry.path).map(|unread| match unread {
            // What cannot be read is not an empty directory, and nobody may take it for one.
            Some(unread) => unread,
            None => entry,
        }))
    }
}

/// What a directory that could not be read counts as: gone, unreadable, or the end of the scan.
fn unread(path: &WorkspacePath, error: FileError) -> Result<Entry, FileError> {
    let reason = match error.kind() {
        FileErrorKind::PermissionDenied => SkipReason::Unreadable,
        FileErrorKind::TooDeep | FileErrorKind::BadPath(_) => SkipReason::TooDeep,
        // Removed or replaced since its name was read. As nobody knows what is there now, nothing
        // beneath is to be taken for removed.
        FileErrorKind::NotFound | FileErrorKind::NotADirectory | FileErrorKind::Link
            if !path.is_root() =>
        {
            SkipReason::Unreadable
        }
        _ => return Err(error),
    };
    let modified = FileTime { seconds: 0, nanoseconds: 0 };
    Ok(Entry { path: path.clone(), node: Node::Skipped(reason), mode: 0, modified, stamp: 0 })
}

#[cfg(test)]
mod tests;
