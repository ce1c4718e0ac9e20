//! The last step of every write: a finished file gets its name, if the conditions of the request
//! still hold.
//!
//! They are judged right before, while no other file call of this agent can change the entry, so
//! that of two writers through the API who both saw the same state one is refused. What is left is
//! the moment between two system calls, and only for those who write past this API: commands of the
//! workspace, and trees that are pushed. Where nothing may have the name there is not even that
//! moment: the kernel decides with the rename.

use rustix::io::{Errno, Result};

use super::{
    conditions::{Access, Preconditions, State, Verdict},
    directory::Directory,
    error::{FileError, FileErrorKind},
    metadata::{Kind, Metadata},
    path::{Name, WorkspacePath},
    root::{Missing, Root},
};

/// What becomes of a file that has the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replace {
    /// It is replaced.
    Yes,
    /// The rename fails with EXIST.
    No,
}

/// Lets `rename` give a file the name, if the conditions hold. Answers with what was replaced.
pub(super) fn publish(
    root: &Root,
    path: &WorkspacePath,
    (directory, name): (&Directory, Name<'_>),
    conditions: &Preconditions,
    rename: impl FnOnce(Replace) -> Result<()>,
) -> std::result::Result<Option<Metadata>, FileError> {
    let fail = |errno| FileError::from_errno("write", path, errno);
    let failed = || FileError::new("write", path, FileErrorKind::PreconditionFailed);
    let _turn = root.turn();
    let former = what_stands_there(directory, name).map_err(fail)?;
    judge(path, conditions, former.as_ref())?;
    let replace = if conditions.want_absence() { Replace::No } else { Replace::Yes };
    match rename(replace) {
        Ok(()) => Ok(former),
        Err(Errno::EXIST) if replace == Replace::No => Err(failed()),
        Err(errno) => Err(fail(errno)),
    }
}

/// Refuses a write whose conditions do not hold already, before its content is taken.
pub(super) fn look_ahead(
    root: &Root,
    path: &WorkspacePath,
    conditions: &Preconditions,
) -> std::result::Result<(), FileError> {
    if conditions.is_empty() {
        return Ok(());
    }
    let former = match root.parent("write", path, Missing::Fail) {
        Ok((directory, name)) => what_stands_there(&directory, name)
            .map_err(|errno| FileError::from_errno("write", path, errno))?,
        Err(error) if error.kind() == FileErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    judge(path, conditions, former.as_ref())
}

fn judge(
    path: &WorkspacePath,
    conditions: &Preconditions,
    former: Option<&Metadata>,
) -> std::result::Result<(), FileError> {
    match conditions.judge(Access::Write, former.map(State::from).as_ref()) {
        Verdict::Proceed => Ok(()),
        Verdict::NotModified | Verdict::Failed => {
            Err(FileError::new("write", path, FileErrorKind::PreconditionFailed))
        }
    }
}

/// What has the name: anything but a directory, or nothing.
pub(super) fn what_stands_there(directory: &Directory, name: Name<'_>) -> Result<Option<Metadata>> {
    match directory.stat(name) {
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
        Ok(metadata) if metadata.kind == Kind::Directory => Err(Errno::ISDIR),
        Ok(metadata) => Ok(Some(metadata)),
    }
}

/// The mode of a file that is written: as asked for, or that of the file before, or 0644. A link
/// has none to take over.
pub(super) fn mode_of_new(asked: Option<u32>, former: Option<&Metadata>) -> u32 {
    const DEFAULT: u32 = 0o644;
    let former = former.filter(|former| former.kind == Kind::File).map(|former| former.mode);
    asked.or(former).unwrap_or(DEFAULT)
}
