//! The root of the workspace as a descriptor: where every file operation starts.
//!
//! Not a sandbox for commands, which may go where their uid may. It confines what the *agent* does
//! on behalf of a request: a path that leaves the root, by `..`, by a link, or by a link that is
//! put there meanwhile, is an error and touches nothing. No other module opens files by name.

use std::{
    fs::File,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::{
    fs::{OFlags, fstat},
    io::Errno,
};

use super::{
    directory::{DIRECTORY_FLAGS, Directory, READ_FLAGS},
    error::{FileError, FileErrorKind},
    metadata::{Kind, Metadata},
    path::{Name, PathError, WorkspacePath},
    resolve::{Links, ResolveError, Resolver},
};

/// A directory that nothing done through it can leave.
#[derive(Debug)]
pub struct Root {
    directory: Directory,
    resolver: Resolver,
    /// See [`Root::turn`].
    turn: Mutex<()>,
}

/// What a path led to, opened for reading.
#[derive(Debug)]
pub enum Opened {
    /// A regular file.
    File(File, Metadata),
    /// A directory.
    Directory(Directory, Metadata),
}

impl Root {
    /// Opens the directory at an ordinary path of this machine.
    ///
    /// # Errors
    /// When it is not there, not a directory, or not readable.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let directory = Directory::open_ambient(path)?;
        let resolver = Resolver::probe(&directory);
        Ok(Self { directory, resolver, turn: Mutex::default() })
    }

    /// Like [`Root::open`] with a mechanism of the caller's choice.
    ///
    /// # Errors
    /// As [`Root::open`].
    pub fn open_with(path: &Path, resolver: Resolver) -> std::io::Result<Self> {
        let directory = Directory::open_ambient(path)?;
        Ok(Self { directory, resolver, turn: Mutex::default() })
    }

    /// A turn at changing what a name stands for. Whoever holds it may look at an entry and then
    /// replace, move or remove it, and nobody else of this agent's file calls comes between.
    /// Commands of the workspace do not ask for turns.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        // Nothing is kept in it, so nothing can be half-done when a holder has panicked.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mechanism in use.
    pub fn resolver(&self) -> Resolver {
        self.resolver
    }

    /// The root directory itself.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// A directory beneath this root as a root of its own: what is done through it stays in it.
    ///
    /// # Errors
    /// When the path does not lead to a directory beneath this root.
    pub fn subroot(&self, path: &WorkspacePath) -> Result<Self, FileError> {
        let directory = self.open_directory(path, Links::Follow)?;
        Ok(Self { directory, resolver: self.resolver, turn: Mutex::default() })
    }

    /// Like [`Root::subroot`]; directories that are missing on the way are made.
    ///
    /// # Errors
    /// As [`Root::subroot`], and when a directory cannot be made.
    pub fn create_subroot(&self, path: &WorkspacePath) -> Result<Self, FileError> {
        let directory = self.create_directories(path, Links::Follow)?;
        Ok(Self { directory, resolver: self.resolver, turn: Mutex::default() })
    }

    /// Opens a regular file or a directory for reading, links beneath the root followed.
    ///
    /// # Errors
    /// When there is neither.
    pub fn open_for_reading(&self, path: &WorkspacePath) -> Result<Opened, FileError> {
        let fail = |errno| FileError::from_errno("open", path, errno);
        let fd = self.resolve("open", path, READ_FLAGS, Links::Follow)?;
        let metadata = Metadata::from(&fstat(&fd).map_err(fail)?);
        match metadata.kind {
            Kind::Directory => {
                Ok(Opened::Directory(Directory::from_fd(fd).map_err(fail)?, metadata))
            }
            Kind::File => Ok(Opened::File(File::from(fd), metadata)),
            Kind::Symlink | Kind::Fifo | Kind::Socket | Kind::Device => {
                Err(FileError::new("open", path, FileErrorKind::NotRegular))
            }
        }
    }

    /// Opens a directory.
    ///
    /// # Errors
    /// When there is none beneath the root.
    pub fn open_directory(
        &self,
        path: &WorkspacePath,
        links: Links,
    ) -> Result<Directory, FileError> {
        let fd = self.resolve("open directory", path, DIRECTORY_FLAGS, links)?;
        Directory::from_fd(fd).map_err(|errno| FileError::from_errno("open directory", path, errno))
    }

    /// Opens a directory, making it and those above it where they are missing.
    ///
    /// # Errors
    /// When something else has one of the names, or a directory cannot be made.
    pub fn create_directories(
        &self,
        path: &WorkspacePath,
        links: Links,
    ) -> Result<Directory, FileError> {
        match self.open_directory(path, links) {
            Err(error) if error.kind() == FileErrorKind::NotFound => {}
            result => return result,
        }
        let mut reached = WorkspacePath::root();
        let mut directory = self.open_directory(&reached, links)?;
        for name in path.names() {
            let fail = |errno| FileError::from_errno("create directory", path, errno);
            match directory.make_directory(name) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(fail(errno)),
            }
            reached
                .push(name)
                .map_err(|reason| FileError::new("create", path, FileErrorKind::BadPath(reason)))?;
            directory = self.open_directory(&reached, links)?;
        }
        Ok(directory)
    }

    /// The directory that holds `path`, and the name in it. The entry itself need not exist.
    ///
    /// # Errors
    /// When the path is the root itself, or the directory cannot be opened.
    pub fn parent<'a>(
        &self,
        action: &'static str,
        path: &'a WorkspacePath,
        missing: Missing,
    ) -> Result<(Directory, Name<'a>), FileError> {
        let bad = |reason| FileError::new(action, path, FileErrorKind::BadPath(reason));
        let (parent, name) = path.split_last().ok_or_else(|| bad(PathError::Empty))?;
        if path.names().any(Name::is_temporary) {
            return Err(bad(PathError::Reserved));
        }
        let directory = match missing {
            Missing::Create => self.create_directories(&parent, Links::Follow)?,
            Missing::Fail => self.open_directory(&parent, Links::Follow)?,
        };
        Ok((directory, name))
    }

    fn resolve(
        &self,
        action: &'static str,
        path: &WorkspacePath,
        flags: OFlags,
        links: Links,
    ) -> Result<std::os::fd::OwnedFd, FileError> {
        self.resolver.open(&self.directory, path, flags, links).map_err(|error| match error {
            ResolveError::Kind(kind) => FileError::new(action, path, kind),
            ResolveError::Errno(errno) => FileError::from_errno(action, path, errno),
        })
    }
}

/// What to do about directories that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Make them.
    Create,
    /// Say so.
    Fail,
}

#[cfg(test)]
mod tests;
