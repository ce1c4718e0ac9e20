//! Removing what the other side has no more: never more than was meant.

use rustix::io::Errno;

use super::manifest::order;
use crate::files::{
    FileError, FileErrorKind, Root, WorkspacePath,
    directory::Directory,
    metadata::{FileTime, Kind},
    resolve::Links,
};

/// Up to so many removals nobody has to be asked: a tree of that size is easily made again.
const HARMLESS: u64 = 10;

/// A removal that looks like a mistake: an empty or another directory as the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{removals} of the {present} entries would be removed, which is all or more than half of them; \
     give --delete-any if that is what you want. Nothing was removed"
)]
pub struct LooksLikeAMistake {
    removals: u64,
    present: u64,
}

/// Judges a number of removals among the entries that are there.
///
/// # Errors
/// When all of them would go, or more than half of more than a few.
pub fn guard(removals: u64, present: u64) -> Result<(), LooksLikeAMistake> {
    let all = removals > 0 && removals >= present;
    let most = removals > HARMLESS && removals > present / 2;
    if all || most { Err(LooksLikeAMistake { removals, present }) } else { Ok(()) }
}

/// Removes these entries, a directory only if it is empty when its turn comes: what was excluded, or
/// has come meanwhile, stays, with the directories above it. Directories that entries are taken from
/// keep their times. Gives the number of entries that are gone. Blocks.
///
/// # Errors
/// What the kernel says; what was removed before stays removed.
pub fn remove_listed(root: &Root, mut paths: Vec<WorkspacePath>) -> Result<u64, FileError> {
    // What is in a directory stands behind it, and has to go first.
    paths.sort_by(|left, right| order(right, left));
    let mut removed = 0;
    let mut parent: Option<Parent> = None;
    for path in &paths {
        let Some((above, name)) = path.split_last() else { continue };
        if parent.as_ref().is_none_or(|parent| parent.path != above) {
            leave(parent.take())?;
            parent = enter(root, above)?;
        }
        let Some(parent) = &parent else { continue };
        let fail = |errno| FileError::from_errno("remove", path, errno);
        let gone = match parent.directory.stat(name) {
            Ok(there) if there.kind == Kind::Directory => parent.directory.remove_directory(name),
            Ok(_) => parent.directory.remove_file(name),
            Err(errno) => Err(errno),
        };
        match gone {
            Ok(()) => removed += 1,
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(errno) => return Err(fail(errno)),
        }
    }
    leave(parent)?;
    Ok(removed)
}

struct Parent {
    path: WorkspacePath,
    directory: Directory,
    modified: FileTime,
}

fn enter(root: &Root, path: WorkspacePath) -> Result<Option<Parent>, FileError> {
    let directory = match root.open_directory(&path, Links::Refuse) {
        Ok(directory) => directory,
        Err(error) if error.kind() == FileErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let modified = directory
        .metadata()
        .map_err(|errno| FileError::from_errno("examine", &path, errno))?
        .modified;
    Ok(Some(Parent { path, directory, modified }))
}

fn leave(parent: Option<Parent>) -> Result<(), FileError> {
    let Some(Parent { path, directory, modified }) = parent else { return Ok(()) };
    directory
        .set_own_modified(modified)
        .map_err(|errno| FileError::from_errno("set the time of", &path, errno))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn removals_that_look_like_a_mistake_are_refused() {
        for (removals, present, fine) in [
            (0, 0, true),
            (0, 100, true),
            (1, 2, true),
            (5, 6, true),
            (1, 1, false),
            (6, 6, false),
            (50, 100, true),
            (51, 100, false),
            (10, 11, true),
            (11, 12, false),
        ] {
            assert_eq!(guard(removals, present).is_ok(), fine, "{removals} of {present}");
        }
    }

    #[test]
    fn directories_go_when_they_are_empty_and_those_above_keep_their_time() {
        let tree = tempfile::tempdir().unwrap();
        let at = |path: &str| tree.path().join(path);
        fs::create_dir_all(at("kept/gone/deep")).unwrap();
        fs::create_dir_all(at("used")).unwrap();
        fs::write(at("kept/gone/deep/file"), "").unwrap();
        fs::write(at("used/other"), "").unwrap();
        let before = fs::metadata(at("kept")).unwrap().modified().unwrap();
        let paths = ["kept/gone", "kept/gone/deep", "kept/gone/deep/file", "used", "none/x"];
        let paths = paths.map(|path| WorkspacePath::parse(path.as_bytes()).unwrap()).to_vec();
        let root = Root::open(tree.path()).unwrap();
        assert_eq!(remove_listed(&root, paths), Ok(3));
        assert!(!at("kept/gone").exists() && at("used/other").exists());
        assert_eq!(fs::metadata(at("kept")).unwrap().modified().unwrap(), before);
    }
}
