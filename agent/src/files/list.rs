//! `GET` of a directory: its entries as one JSON object, written as they are read.
//!
//! The order is that of the names' bytes, a directory right before what is in it. A directory with a
//! million entries costs no more memory than one with ten thousand; see [`super::sorted`].

use std::io::{self, Write};

use base64::{Engine, prelude::BASE64_STANDARD};
use rustix::io::Errno;
use serde::Serialize;

use super::{
    digest::ContentDigest,
    directory::Directory,
    error::FileError,
    glob::Globs,
    metadata::{Kind, Metadata},
    path::{Name, WorkspacePath},
    query::{Query, QueryError},
    sorted::SortedNames,
    transfer::Outlet,
};

/// The deepest listing. Every level holds a descriptor and names.
pub(super) const MAX_DEPTH: u32 = 64;
/// Names that are kept of the directory listed, and half of it of each level below, down to
/// [`LEAST_KEPT`]: some megabytes in all.
const MOST_KEPT: usize = 32 * 1024;
const LEAST_KEPT: usize = 512;

/// What a listing shows.
#[derive(Debug)]
pub(super) struct ListOptions {
    /// Levels of entries: 1 for those of the directory alone.
    depth: usize,
    globs: Globs,
    /// Whether files are read and hashed.
    digests: bool,
}

impl ListOptions {
    /// Takes `depth`, `glob` and `digest`.
    ///
    /// # Errors
    /// When one of them is not acceptable.
    pub(super) fn take(query: &mut Query) -> Result<Self, QueryError> {
        Ok(Self {
            depth: query.take_depth("depth", MAX_DEPTH)?,
            globs: Globs::parse(&query.take_all("glob"))?,
            digests: query.take_digest("digest")?,
        })
    }
}

/// One entry of a listing.
#[derive(Debug, Serialize)]
struct Entry {
    /// From the directory listed.
    name: String,
    /// The exact bytes, where the name is not UTF-8 and `name` shows replacement characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    name_base64: Option<String>,
    kind: &'static str,
    size: u64,
    mode: String,
    mtime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    /// Whether the content, or what is in the directory, could not be read.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unreadable: bool,
}

/// Writes the listing of `directory` and ends the body; for blocking threads.
pub(super) fn write_listing(
    path: &WorkspacePath,
    directory: Directory,
    options: &ListOptions,
    mut outlet: Outlet,
) {
    match try_write(path, directory, options, &mut outlet) {
        Ok(()) => {
            if outlet.finish().is_err() {
                tracing::debug!("the client left before the end of a listing");
            }
        }
        Err(error) => outlet.fail(error),
    }
}

fn try_write(
    path: &WorkspacePath,
    directory: Directory,
    options: &ListOptions,
    outlet: &mut Outlet,
) -> io::Result<()> {
    let shown = String::from_utf8_lossy(path.as_bytes());
    write!(outlet, "{{\"path\":{},\"entries\":[", serde_json::to_string(&shown)?)?;
    let mut listing = Listing { path, options, levels: Vec::new(), within: WorkspacePath::root() };
    listing.enter(directory);
    let mut separator = "";
    while let Some(entry) = listing.next_shown()? {
        outlet.write_all(separator.as_bytes())?;
        serde_json::to_writer(&mut *outlet, &entry)?;
        separator = ",";
    }
    outlet.write_all(b"]}\n")
}

/// A listing under way.
struct Listing<'a> {
    path: &'a WorkspacePath,
    options: &'a ListOptions,
    levels: Vec<SortedNames>,
    /// The directory of the last level, from the one listed.
    within: WorkspacePath,
}

impl Listing<'_> {
    fn enter(&mut self, directory: Directory) {
        let capacity = (MOST_KEPT >> self.levels.len().min(16)).max(LEAST_KEPT);
        self.levels.push(SortedNames::new(directory, capacity));
    }

    fn next_shown(&mut self) -> io::Result<Option<Entry>> {
        while let Some(level) = self.levels.last_mut() {
            match level.next_name().map_err(|errno| self.failure(errno))? {
                None => {
                    self.levels.pop();
                    self.within.pop();
                }
                Some(name) => {
                    if let Some(entry) = self.visit(&name)? {
                        return Ok(Some(entry));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Looks at an entry, and goes into it where it is a directory. `None` where it is not shown.
    fn visit(&mut self, name: &[u8]) -> io::Result<Option<Entry>> {
        let Some(level) = self.levels.last() else { return Ok(None) };
        let Ok(name) = Name::parse(name) else { return Ok(None) };
        let (metadata, target) = match examine(level.directory(), name) {
            Ok(examined) => examined,
            // It was removed since its name was read.
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.failure(errno)),
        };
        let mut path = self.within.clone();
        // A longer path cannot be named in any other call either.
        if path.push(name).is_err() {
            return Ok(None);
        }
        let shown = self.options.globs.match_path(path.as_bytes());
        let mut entry = describe(&path, &metadata, target.as_deref());
        match metadata.kind {
            Kind::File if self.options.digests && shown => add_digest(level, name, &mut entry),
            Kind::Directory if self.levels.len() < self.options.depth => {
                match level.directory().open_directory(name) {
                    Ok(directory) => {
                        self.within = path;
                        self.enter(directory);
                    }
                    Err(_closed) => entry.unreadable = true,
                }
            }
            _ => {}
        }
        Ok(shown.then_some(entry))
    }

    fn failure(&self, errno: Errno) -> io::Error {
        io::Error::other(FileError::from_errno("list", self.path, errno))
    }
}

fn add_digest(level: &SortedNames, name: Name<'_>, entry: &mut Entry) {
    let opened = level.directory().open_file(name).map_err(io::Error::from);
    match opened.and_then(|(mut file, _)| ContentDigest::of_file(&mut file)) {
        Ok(digest) => entry.sha256 = Some(digest.to_string()),
        Err(_unreadable) => entry.unreadable = true,
    }
}

fn examine(directory: &Directory, name: Name<'_>) -> Result<(Metadata, Option<Vec<u8>>), Errno> {
    let metadata = directory.stat(name)?;
    let target = match metadata.kind {
        Kind::Symlink => Some(directory.read_link(name)?),
        Kind::File | Kind::Directory | Kind::Fifo | Kind::Socket | Kind::Device => None,
    };
    Ok((metadata, target))
}

fn describe(path: &WorkspacePath, metadata: &Metadata, target: Option<&[u8]>) -> Entry {
    Entry {
        name: String::from_utf8_lossy(path.as_bytes()).into_owned(),
        name_base64: base64_unless_utf8(path.as_bytes()),
        kind: metadata.kind.as_str(),
        size: metadata.size,
        mode: format!("{:04o}", metadata.mode),
        mtime: metadata.modified.to_rfc3339(),
        etag: metadata.tag().map(|_| metadata.etag()),
        target: target.map(|target| String::from_utf8_lossy(target).into_owned()),
        target_base64: target.and_then(base64_unless_utf8),
        sha256: None,
        unreadable: false,
    }
}

fn base64_unless_utf8(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).is_err().then(|| BASE64_STANDARD.encode(bytes))
}
