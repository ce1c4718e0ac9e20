//! What a directory tree holds, to the nanosecond, so that two of them can be compared.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use anyhow::Result;

/// How the names of unfinished writes begin.
pub const TEMPORARY: &str = ".workspace-tmp-";

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What it is, and what it holds.
    pub node: Node,
    /// Permission bits; zero for a link, which has none.
    pub mode: u32,
    /// Seconds since 1970 and nanoseconds.
    pub modified: (i64, i64),
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A regular file and its content.
    File(Vec<u8>),
    /// A directory.
    Directory,
    /// A link and its target.
    Link(Vec<u8>),
    /// A socket, FIFO or device.
    Special,
}

/// Everything beneath a directory by its path, links as what they are.
///
/// # Errors
/// When something cannot be read.
pub fn picture(root: &Path) -> Result<BTreeMap<PathBuf, Seen>> {
    let mut seen = BTreeMap::new();
    for path in paths(root)? {
        seen.insert(path.strip_prefix(root)?.to_owned(), look(&path)?);
    }
    Ok(seen)
}

fn look(path: &Path) -> Result<Seen> {
    let metadata = fs::symlink_metadata(path)?;
    let mut mode = metadata.mode() & 0o7777;
    let node = if metadata.is_symlink() {
        mode = 0;
        Node::Link(fs::read_link(path)?.into_os_string().into_vec())
    } else if metadata.is_dir() {
        Node::Directory
    } else if metadata.is_file() {
        Node::File(fs::read(path)?)
    } else {
        Node::Special
    };
    Ok(Seen { node, mode, modified: (metadata.mtime(), metadata.mtime_nsec()) })
}

/// The path of everything beneath a directory, links not followed.
///
/// # Errors
/// When a directory cannot be listed.
pub fn paths(root: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut pending) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                pending.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The unfinished writes beneath a directory.
///
/// # Errors
/// When a directory cannot be listed.
pub fn litter(root: &Path) -> Result<Vec<PathBuf>> {
    let is_temporary = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_bytes().starts_with(TEMPORARY.as_bytes()))
    };
    Ok(paths(root)?.into_iter().filter(is_temporary).collect())
}
