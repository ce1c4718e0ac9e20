//! Moving an entry to another name of the workspace: one rename(2), so that it is at every moment at
//! one place or the other, whole.

use rustix::io::Errno;

use super::{
    error::{FileError, FileErrorKind},
    path::{PathError, WorkspacePath},
    root::{Missing, Root},
};

/// What becomes of an entry that has the new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// It is replaced: a file by a file, an empty directory by a directory.
    Yes,
    /// It stays, and the move fails.
    No,
}

/// Moves `from` to `to`; a link itself, never its target. Answers whether something was replaced.
///
/// # Errors
/// When there is nothing at `from`, something at `to` that may not be or cannot be replaced, either
/// is the root, or `to` lies beneath `from`. Nothing has happened then but that missing directories
/// were made, where they were to be.
pub fn rename(
    root: &Root,
    (from, to): (&WorkspacePath, &WorkspacePath),
    overwrite: Overwrite,
    missing: Missing,
) -> Result<bool, FileError> {
    let (source, old) = root.parent("move", from, Missing::Fail)?;
    if to.starts_with(from) && to != from {
        return Err(FileError::new("move", from, FileErrorKind::IntoItself));
    }
    // Looked for first: directories are not to be made for something that is not there.
    source.stat(old).map_err(|errno| FileError::from_errno("move", from, errno))?;
    let (target, new) = root.parent("move to", to, missing)?;
    let _turn = root.turn();
    let replaced = target.stat(new).is_ok();
    let renamed = match overwrite {
        Overwrite::Yes => source.rename_to(old, &target, new),
        Overwrite::No => source.rename_new(old, &target, new),
    };
    renamed.map(|()| replaced).map_err(|errno| explain((from, to), overwrite, errno))
}

/// What the kernel's refusal means here; it is about the new name unless it says otherwise.
fn explain(
    (from, to): (&WorkspacePath, &WorkspacePath),
    overwrite: Overwrite,
    errno: Errno,
) -> FileError {
    match errno {
        Errno::EXIST if overwrite == Overwrite::No => {
            FileError::new("move to", to, FileErrorKind::Exists)
        }
        Errno::INVAL => FileError::new("move", from, FileErrorKind::IntoItself),
        Errno::XDEV => FileError::new("move to", to, FileErrorKind::OtherFileSystem),
        Errno::NOENT => FileError::new("move", from, FileErrorKind::NotFound),
        errno => FileError::from_errno("move to", to, errno),
    }
}

/// Makes a directory. Answers whether it is new.
///
/// # Errors
/// When something has the name, unless it is a directory and that is `fine`; when the directory above
/// is missing and stays so; when it is the root.
pub fn make_directory(
    root: &Root,
    path: &WorkspacePath,
    options: &MakeOptions,
) -> Result<bool, FileError> {
    const ACTION: &str = "make directory";
    let fail = |errno| FileError::from_errno(ACTION, path, errno);
    if path.is_root() {
        let kind = FileErrorKind::BadPath(PathError::Empty);
        return Err(FileError::new(ACTION, path, kind));
    }
    let (parent, name) = root.parent(ACTION, path, options.missing)?;
    match parent.make_directory(name) {
        Ok(()) => {}
        Err(Errno::EXIST) if options.exists_ok && is_directory(root, path) => return Ok(false),
        Err(Errno::EXIST) => return Err(FileError::new(ACTION, path, FileErrorKind::Exists)),
        Err(errno) => return Err(fail(errno)),
    }
    if let Some(mode) = options.mode {
        let made = parent.open_directory(name).map_err(fail)?;
        made.set_own_mode(mode).map_err(fail)?;
    }
    Ok(true)
}

/// How a directory is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MakeOptions {
    /// Its permission bits; what the umask leaves of 0777 where none are given.
    pub mode: Option<u32>,
    /// Whether those above it are made, too.
    pub missing: Missing,
    /// Whether one that is there already, or a link to one beneath the root, will do.
    pub exists_ok: bool,
}

fn is_directory(root: &Root, path: &WorkspacePath) -> bool {
    root.open_directory(path, super::resolve::Links::Follow).is_ok()
}
