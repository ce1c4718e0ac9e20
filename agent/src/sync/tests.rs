//! Packing and unpacking against each other, and by the calls; what the tests have in common.

mod calls;
mod hostile;
mod replacing;
mod round_trip;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::Path,
};

use http_body_util::BodyExt;
use proptest::prelude::*;
use serde_json::Value;
use tar::{EntryType, Header};
use workspace_common::body::{empty, full};

use super::{
    archive::{ReadError, Report},
    exclude::{Defaults, Exclusions},
    manifest::scan::{Scan, ScanOptions, Unfinished},
    unpack::{Purpose, UnpackError, Unpacking},
    *,
};
use crate::files::{FileErrorKind, metadata::FileTime, resolve::Resolver};

fn everything() -> Exclusions {
    Exclusions::new::<&str>(&[], Defaults::Ignore).unwrap()
}

fn pack_directory(directory: &Path, exclusions: &Exclusions) -> (Vec<u8>, Report) {
    let root = Root::open(directory).unwrap();
    let root = Arc::new(root);
    let options = ScanOptions {
        exclusions: exclusions.clone(),
        gitignore: false,
        hashes: false,
        unfinished: Unfinished::Leave,
    };
    let entries = pack::whole(Scan::new(Arc::clone(&root), options));
    pack::pack(&root, entries, Vec::new(), &mut |_| {}).unwrap()
}

fn unpack_into(directory: &Path, archive: &[u8]) -> Result<Report, UnpackError> {
    let root = Root::open(directory).unwrap();
    unpack::unpack(&root, plainly(Limits::default()), archive, &mut |_| {})
        .map(|unpacked| unpacked.report)
}

fn plainly(limits: Limits) -> Unpacking {
    Unpacking { limits, ..Unpacking::of(Purpose::Archive) }
}

/// Kind, mode, time in seconds and nanoseconds, and content.
type Seen = (char, u32, i64, i64, Vec<u8>);

/// Everything in a directory, by its path.
fn picture(directory: &Path) -> BTreeMap<Vec<u8>, Seen> {
    let mut found = BTreeMap::new();
    let mut todo = vec![directory.to_path_buf()];
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let (kind, content) = if metadata.is_symlink() {
                ('l', fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec())
            } else if metadata.is_dir() {
                todo.push(path.clone());
                ('d', Vec::new())
            } else {
                ('f', fs::read(&path).unwrap())
            };
            let name = path.strip_prefix(directory).unwrap().as_os_str().as_bytes().to_vec();
            let mode = if kind == 'l' { 0 } else { metadata.mode() & 0o7777 };
            found.insert(name, (kind, mode, metadata.mtime(), metadata.mtime_nsec(), content));
        }
    }
    found
}

fn member(entry_type: EntryType, path: &str, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(entry_type);
    header.set_mode(0o644);
    header.set_mtime(1);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(path: &str) -> Vec<u8> {
    member(EntryType::Regular, path, "", b"hostile")
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = members.concat();
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}
