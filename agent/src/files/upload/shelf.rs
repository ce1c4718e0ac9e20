//! Where unfinished uploads lie: one directory in the root, which no listing, manifest or watch
//! shows, with two files for each. Everything here starts at the root's descriptor and follows no
//! link; what else is found in the directory is the workspace's own doing and is left alone.

use std::io::Read;

use rustix::io::{Errno, Result};

use super::{
    super::{
        directory::Directory,
        error::FileError,
        metadata::FileTime,
        path::{Name, UPLOADS_DIRECTORY},
        root::Root,
        temporary::TemporaryFile,
    },
    record::{MAX_RECORD, Record, UploadId},
};

/// Entries that are looked at when the agent starts; more are not of its making.
const MAX_LOOKED_AT: usize = 100_000;
/// Nobody but the agent's own user reads what is not finished.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// An upload that was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: UploadId,
    pub(super) record: Record,
    pub(super) size: u64,
    pub(super) touched: FileTime,
}

/// The directory, if there is one.
pub(super) fn open(root: &Root) -> Result<Directory> {
    root.directory().open_directory(directory_name()?)
}

fn directory_name() -> Result<Name<'static>> {
    name(UPLOADS_DIRECTORY)
}

/// A name of our own making as one.
pub(super) fn name(text: &str) -> Result<Name<'_>> {
    Name::parse(text.as_bytes()).map_err(|_reason| Errno::INVAL)
}

/// Makes the files of an upload: its record appears whole, and after its content.
pub(super) fn create(
    root: &Root,
    id: UploadId,
    record: &Record,
) -> std::result::Result<(), FileError> {
    let make = || -> Result<()> {
        let shelf = begin(root, id)?;
        let mut temporary = TemporaryFile::create(&shelf)?;
        let json = record.to_json();
        temporary
            .write_all(json.as_bytes())
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        temporary.publish(name(&id.record_name())?)
    };
    make().map_err(|errno| {
        remove(root, id);
        FileError::from_errno("begin the upload of", &record.path, errno)
    })
}

/// The directory with the empty content of an upload in it, so that nobody takes it away as empty.
fn begin(root: &Root, id: UploadId) -> Result<Directory> {
    let _turn = root.turn();
    let shelf = open_or_make(root)?;
    shelf.create_new(name(&id.to_string())?, FILE_MODE)?;
    Ok(shelf)
}

fn open_or_make(root: &Root) -> Result<Directory> {
    match open(root) {
        Err(Errno::NOENT) => {}
        result => return result,
    }
    match root.directory().make_directory(directory_name()?) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let shelf = open(root)?;
    shelf.set_own_mode(DIRECTORY_MODE)?;
    Ok(shelf)
}

/// Removes what is left of an upload, and the directory after the last one.
pub(super) fn remove(root: &Root, id: UploadId) {
    let Ok(shelf) = open(root) else { return };
    for file in [id.record_name(), id.to_string()] {
        let removed = name(&file).and_then(|file| shelf.remove_file(file));
        match removed {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => tracing::warn!(upload.id = %id, %error, "an upload cannot be removed"),
        }
    }
    let _turn = root.turn();
    match directory_name().and_then(|name| root.directory().remove_directory(name)) {
        // Others are in it.
        Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => {}
        Err(error) => tracing::debug!(%error, "the directory of uploads stays"),
    }
}

/// Finds the uploads of an earlier agent, `most` of them at most, and removes what is half of one.
pub(super) fn load(root: &Root, most: usize) -> Vec<Found> {
    let Ok(mut shelf) = open(root).and_then(|shelf| shelf.reopen()) else { return Vec::new() };
    let mut found = Vec::new();
    for _ in 0..MAX_LOOKED_AT {
        let Some(Ok((entry, _))) = shelf.next_entry() else { break };
        let Some(id) = std::str::from_utf8(&entry).ok().and_then(UploadId::parse) else { continue };
        match examine(root, id) {
            Ok(upload) if found.len() < most => found.push(upload),
            Ok(_) => {}
            Err(reason) => {
                tracing::warn!(upload.id = %id, reason, "the rest of an upload was removed");
                remove(root, id);
            }
        }
    }
    found
}

fn examine(root: &Root, id: UploadId) -> std::result::Result<Found, String> {
    let say = |errno: Errno| errno.to_string();
    let shelf = open(root).map_err(say)?;
    let (content, record) = (id.to_string(), id.record_name());
    let (_, metadata) = shelf.open_file(name(&content).map_err(say)?).map_err(say)?;
    let (file, _) = shelf.open_file(name(&record).map_err(say)?).map_err(say)?;
    let mut json = Vec::new();
    file.take(MAX_RECORD).read_to_end(&mut json).map_err(|error| error.to_string())?;
    let record = Record::from_json(&json).map_err(|error| error.to_string())?;
    // A time to come, which anybody can set, would keep it for ever.
    let touched = metadata.modified.min(FileTime::now());
    Ok(Found { id, record, size: metadata.size, touched })
}
