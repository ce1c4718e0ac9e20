//! Removing entries: one, a whole tree, or the litter of writes that a crash left unfinished.

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::{
    directory::Directory,
    error::{FileError, FileErrorKind},
    metadata::Kind,
    path::{Name, WorkspacePath},
    root::{Missing, Root},
    walk::{Visit, Walk},
};

/// How much a removal takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// A file, a link, or an empty directory.
    Entry,
    /// A directory with all that is in it, too.
    Tree,
}

/// Removes what has the name; a link itself, never its target.
///
/// # Errors
/// When nothing has the name, when it is the root, when a directory has entries and the reach is
/// one entry, and what the kernel says. A tree whose removal fails is left partly removed.
pub fn remove(root: &Root, path: &WorkspacePath, reach: Reach) -> Result<(), FileError> {
    let (directory, name) = root.parent("remove", path, Missing::Fail)?;
    remove_from(&directory, name, path, reach)
}

/// Like [`remove`], from the directory that is open; `path` is for messages.
///
/// # Errors
/// As [`remove`].
pub fn remove_from(
    directory: &Directory,
    name: Name<'_>,
    path: &WorkspacePath,
    reach: Reach,
) -> Result<(), FileError> {
    let fail = |errno| FileError::from_errno("remove", path, errno);
    if directory.stat(name).map_err(fail)?.kind != Kind::Directory {
        return directory.remove_file(name).map_err(fail);
    }
    match directory.remove_directory(name) {
        Err(Errno::NOTEMPTY | Errno::EXIST) if reach == Reach::Tree => {
            let tree = directory.open_directory(name).map_err(fail)?;
            remove_entries(path, tree)?;
            directory.remove_directory(name).map_err(fail)
        }
        result => result.map_err(fail),
    }
}

fn remove_entries(top: &WorkspacePath, directory: Directory) -> Result<(), FileError> {
    let mut walk = Walk::new(directory);
    while let Some(visit) = walk.next() {
        let removed = match visit? {
            Visit::Entry(Kind::Directory) => {
                walk.enter()?;
                continue;
            }
            Visit::Entry(_) => walk.with_entry(Directory::remove_file),
            Visit::Left => walk.with_entry(Directory::remove_directory),
        };
        match removed {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(FileError::from_errno("remove a tree at", top, errno)),
        }
    }
    Ok(())
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Unfinished writes that were removed.
    pub removed: u64,
    /// Whether the whole tree was seen within the limit.
    pub complete: bool,
}

impl Root {
    /// Removes the unfinished writes of processes that are gone, looking at no more than
    /// `max_entries` entries, so that a start with a huge workspace stays quick. Writes that some
    /// process still works on are locked and stay. Safe to run while requests are served.
    pub fn sweep_temporaries(&self, max_entries: u64) -> Swept {
        let mut swept = Swept { removed: 0, complete: true };
        let Ok(directory) = self.directory().reopen() else { return Swept::default() };
        let mut walk = Walk::new(directory);
        let mut seen = 0;
        while let Some(visit) = walk.next() {
            if seen == max_entries {
                return Swept { complete: false, ..swept };
            }
            seen += 1;
            match visit {
                Ok(Visit::Entry(Kind::Directory)) => swept.complete &= walk.enter().is_ok(),
                Ok(Visit::Entry(kind)) => {
                    let removed =
                        walk.with_entry(|directory, name| sweep_one(directory, name, kind));
                    swept.removed += u64::from(removed == Ok(true));
                }
                Ok(Visit::Left) => {}
                Err(error) if matches!(error.kind(), FileErrorKind::BadPath(_)) => {
                    swept.complete = false;
                }
                Err(_) => return Swept { complete: false, ..swept },
            }
        }
        swept
    }
}

fn sweep_one(directory: &Directory, name: Name<'_>, kind: Kind) -> rustix::io::Result<bool> {
    if !name.is_temporary() {
        return Ok(false);
    }
    if kind == Kind::File {
        let (file, _) = directory.open_file(name)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    }
    directory.remove_file(name).map(|()| true)
}
