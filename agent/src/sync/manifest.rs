//! What a tree holds, entry by entry, in one stable order: the basis of every comparison.
//!
//! Pure, but for [`scan`], which makes it from a directory. The order is that of a walk that visits
//! a directory before its entries and names by their bytes, so that two manifests can be compared
//! while both are still being made, in constant memory.

pub mod hash;
pub mod line;
pub mod scan;
pub mod wire;

use std::cmp::Ordering;

use super::archive::SkipReason;
use crate::files::{WorkspacePath, metadata::FileTime};
use hash::ContentHash;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is, from the top of the tree.
    pub path: WorkspacePath,
    /// What it is.
    pub node: Node,
    /// Permission bits.
    pub mode: u32,
    /// Last change of the content, to the nanosecond.
    pub modified: FileTime,
    /// Tells two states of one entry apart that look alike otherwise: made of the inode and the time
    /// of its last change of any kind, which no program can set. Known where the tree was scanned,
    /// and not part of what is sent; zero for what is unknown, or changed a moment ago.
    pub stamp: u64,
}

/// What an entry is, with what that kind has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    File {
        /// Bytes of content.
        size: u64,
        /// The hash of the content, where it was asked for.
        hash: Option<ContentHash>,
    },
    /// A directory.
    Directory,
    /// A link, with its target as it is written.
    Symlink(Vec<u8>),
    /// What is never transferred, or cannot be read: everything beneath such a path is unknown.
    Skipped(SkipReason),
}

impl Node {
    /// Bytes of content.
    pub fn size(&self) -> u64 {
        match self {
            Self::File { size, .. } => *size,
            Self::Directory | Self::Symlink(_) | Self::Skipped(_) => 0,
        }
    }
}

/// The order of manifests: bytewise, but for the slash, which comes before everything else, so that
/// `a/b` stands right behind `a` and before `a-b`.
pub fn order(left: &WorkspacePath, right: &WorkspacePath) -> Ordering {
    // No name has a NUL byte, so the slash may take its place.
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    let (left, right) = (left.as_bytes(), right.as_bytes());
    match left.iter().zip(right).find(|(left, right)| left != right) {
        Some((left, right)) => rank(left).cmp(&rank(right)),
        None => left.len().cmp(&right.len()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> WorkspacePath {
        WorkspacePath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_in_a_directory_stands_right_behind_it() {
        let mut paths = ["a-b", "a/b", "a", "", "a/b/c", "a b", "a/a!", "b"].map(path);
        paths.sort_by(order);
        let texts = paths.each_ref().map(|path| String::from_utf8_lossy(path.as_bytes()));
        assert_eq!(texts, ["", "a", "a/a!", "a/b", "a/b/c", "a b", "a-b", "b"]);
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_lists_of_names(
            left in "[a/ -]{0,8}", right in "[a/ -]{0,8}",
        ) {
            let (left, right) = (left.trim_matches('/'), right.trim_matches('/'));
            let (left, right) = (path(left), path(right));
            let names = |path: &WorkspacePath| {
                path.names().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>()
            };
            prop_assert_eq!(order(&left, &right), names(&left).cmp(&names(&right)));
        }
    }
}
