//! `GET` of a directory: its entries as one JSON object, written as they are read.
//!
//! The order is the file system's. A directory with a million entries costs no more memory than one
//! with ten.

use std::io::{self, Write};

use base64::{Engine, prelude::BASE64_STANDARD};
use rustix::io::Errno;
use serde::Serialize;

use super::{
    directory::Directory,
    error::FileError,
    metadata::{Kind, Metadata},
    path::{Name, WorkspacePath},
    transfer::Outlet,
};

/// One entry of a listing.
#[derive(Debug, Serialize)]
struct Entry<'a> {
    name: String,
    /// The exact bytes, where the name is not UTF-8 and `name` shows replacement characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    name_base64: Option<String>,
    kind: &'static str,
    size: u64,
    mode: String,
    mtime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<std::borrow::Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_base64: Option<String>,
}

/// Writes the listing of `directory` and ends the body; for blocking threads.
pub(super) fn write_listing(path: &WorkspacePath, directory: Directory, mut outlet: Outlet) {
    match try_write(path, directory, &mut outlet) {
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
    mut directory: Directory,
    outlet: &mut Outlet,
) -> Result<(), io::Error> {
    let shown = String::from_utf8_lossy(path.as_bytes());
    write!(outlet, "{{\"path\":{},\"entries\":[", serde_json::to_string(&shown)?)?;
    let mut separator = "";
    while let Some(entry) = directory.next_entry() {
        let (name, _) =
            entry.map_err(|errno| io::Error::other(FileError::from_errno("list", path, errno)))?;
        let Ok(name) = Name::parse(&name) else { continue };
        if name.is_temporary() {
            continue;
        }
        let (metadata, target) = match examine(&directory, name) {
            Ok(examined) => examined,
            // It was removed since its name was read.
            Err(Errno::NOENT) => continue,
            Err(errno) => {
                return Err(io::Error::other(FileError::from_errno("examine", path, errno)));
            }
        };
        outlet.write_all(separator.as_bytes())?;
        serde_json::to_writer(&mut *outlet, &describe(name, &metadata, target.as_deref()))?;
        separator = ",";
    }
    outlet.write_all(b"]}\n")
}

fn examine(directory: &Directory, name: Name<'_>) -> Result<(Metadata, Option<Vec<u8>>), Errno> {
    let metadata = directory.stat(name)?;
    let target = match metadata.kind {
        Kind::Symlink => Some(directory.read_link(name)?),
        Kind::File | Kind::Directory | Kind::Fifo | Kind::Socket | Kind::Device => None,
    };
    Ok((metadata, target))
}

fn describe<'a>(name: Name<'_>, metadata: &Metadata, target: Option<&'a [u8]>) -> Entry<'a> {
    Entry {
        name: String::from_utf8_lossy(name.as_bytes()).into_owned(),
        name_base64: base64_unless_utf8(name.as_bytes()),
        kind: metadata.kind.as_str(),
        size: metadata.size,
        mode: format!("{:04o}", metadata.mode),
        mtime: metadata.modified.to_rfc3339(),
        target: target.map(String::from_utf8_lossy),
        target_base64: target.and_then(base64_unless_utf8),
    }
}

fn base64_unless_utf8(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).is_err().then(|| BASE64_STANDARD.encode(bytes))
}
