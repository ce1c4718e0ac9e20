//! Files and links that are to stand where a directory is.
//!
//! They wait under a temporary name until the removals of the whole transfer have been judged and
//! done. Only a directory that is empty then is replaced: what was left out of the comparison, or
//! has come meanwhile, is not in the sender's list, and stays.

use rustix::io::Errno;

use super::{Unpacked, Unpacker};
use crate::{
    files::{
        FileError, Root, WorkspacePath,
        directory::Directory,
        metadata::Kind,
        path::Name,
        resolve::Links,
        temporary::{make_temporary_symlink, remove_quietly, replace_with_symlink},
    },
    sync::{
        archive::{Member, Report},
        removal::remove_listed,
    },
};

/// A finished file or link that waits for its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    pub(super) path: WorkspacePath,
    /// Its name until then, in the same directory.
    pub(super) temporary: String,
    pub(super) what: Replacing,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replacing {
    File,
    Symlink,
}

impl Unpacked {
    /// Does what was left for the end: removes what the sender has no more, and puts files and links
    /// in the place of directories that are empty now. Blocks.
    ///
    /// # Errors
    /// What the kernel says; what was done before stays done.
    pub fn settle(mut self, root: &Root) -> Result<Report, FileError> {
        let removals = std::mem::take(&mut self.removals);
        let removed = remove_listed(root, removals);
        if removed.is_err() {
            self.discard(root);
        }
        self.report.removed = removed?;
        for replacement in &self.replacements {
            replacement.put_in_place(root, &mut self.report)?;
        }
        Ok(self.report)
    }

    /// Takes away what waits for its place. Blocks.
    pub fn discard(&mut self, root: &Root) {
        for Replacement { path, temporary, .. } in self.replacements.drain(..) {
            let parent = path.split_last().map(|(parent, _)| parent).unwrap_or_default();
            if let Ok(parent) = root.open_directory(&parent, Links::Refuse) {
                remove_quietly(&parent, &temporary);
            }
        }
    }
}

impl Unpacker<'_> {
    /// Whether a file or link has to wait for a directory to be removed from its place.
    pub(super) fn has_to_wait(&self, parent: &Directory, name: Name<'_>) -> bool {
        self.unpacking.removes()
            && parent.stat(name).is_ok_and(|there| there.kind == Kind::Directory)
    }

    pub(super) fn wait(&mut self, path: &WorkspacePath, temporary: String, what: Replacing) {
        self.done.replacements.push(Replacement { path: path.clone(), temporary, what });
    }

    pub(super) fn make_link(
        &mut self,
        member: &Member,
        target: &[u8],
        path: &WorkspacePath,
        (parent, name): (&Directory, Name<'_>),
    ) -> Result<(), FileError> {
        let fail = |errno| FileError::from_errno("unpack", path, errno);
        if self.has_to_wait(parent, name) {
            let made = make_temporary_symlink(parent, target, member.modified).map_err(fail)?;
            self.wait(path, made, Replacing::Symlink);
            return Ok(());
        }
        replace_with_symlink(parent, target, name, member.modified).map_err(fail)?;
        self.done.report.symlinks += 1;
        Ok(())
    }
}

impl Replacement {
    fn put_in_place(&self, root: &Root, report: &mut Report) -> Result<(), FileError> {
        let Some((parent, name)) = self.path.split_last() else { return Ok(()) };
        let directory = root.open_directory(&parent, Links::Refuse)?;
        let fail = |errno| FileError::from_errno("replace", &self.path, errno);
        let modified = directory.metadata().map_err(fail)?.modified;
        match self.replace(&directory, name) {
            Ok(()) if self.what == Replacing::File => report.files += 1,
            Ok(()) => report.symlinks += 1,
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                remove_quietly(&directory, &self.temporary);
                report.add_blocked(self.path.as_bytes());
            }
            Err(errno) => {
                remove_quietly(&directory, &self.temporary);
                return Err(fail(errno));
            }
        }
        directory.set_own_modified(modified).map_err(fail)
    }

    fn replace(&self, directory: &Directory, name: Name<'_>) -> Result<(), Errno> {
        match directory.remove_directory(name) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => return Err(errno),
        }
        let temporary = Name::parse(self.temporary.as_bytes()).map_err(|_reason| Errno::INVAL)?;
        directory.rename(temporary, name)
    }
}
