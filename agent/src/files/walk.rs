//! A walk over a directory tree that follows no link and holds one descriptor a level.
//!
//! Depth first, in the order of the file system. Entries that come and go during the walk are seen
//! or not seen; memory is bounded by the depth, not by the number of entries.

use rustix::io::Errno;

use super::{
    directory::Directory,
    error::{FileError, FileErrorKind},
    metadata::Kind,
    path::{Name, WorkspacePath},
};

/// Deepest nesting that is walked. Every level holds a descriptor, and the usual soft limit is 1024
/// for the whole process; trees that people make stay below 50.
pub const MAX_DEPTH: usize = 200;

/// What the walk met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// An entry, named by [`Walk::path`] and held by [`Walk::with_entry`].
    Entry(Kind),
    /// Every entry of the directory [`Walk::path`] was visited; [`Walk::with_entry`] holds it.
    Left,
}

/// A walk under way.
#[derive(Debug)]
pub struct Walk {
    levels: Vec<Directory>,
    path: WorkspacePath,
    at_entry: bool,
}

impl Walk {
    /// Starts at a directory, whose entries come first.
    pub fn new(directory: Directory) -> Self {
        Self { levels: vec![directory], path: WorkspacePath::root(), at_entry: false }
    }

    /// Goes into the directory that was just met. A link that took its place is refused.
    ///
    /// # Errors
    /// When it cannot be opened, or lies too deep.
    pub fn enter(&mut self) -> Result<(), FileError> {
        if self.levels.len() >= MAX_DEPTH {
            return Err(FileError::new("open directory", &self.path, FileErrorKind::TooDeep));
        }
        let directory = self.with_entry(|directory, name| directory.open_directory(name));
        let directory = directory
            .map_err(|errno| FileError::from_errno("open directory", &self.path, errno))?;
        self.levels.push(directory);
        self.at_entry = false;
        Ok(())
    }

    /// The path of the entry that was met, or of the directory that was left.
    pub fn path(&self) -> &WorkspacePath {
        &self.path
    }

    /// Calls `operation` with the entry that was met or left, and the directory that holds it.
    ///
    /// # Errors
    /// What `operation` says, or NOENT after the end of the walk.
    pub fn with_entry<T>(
        &self,
        operation: impl FnOnce(&Directory, Name<'_>) -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        let directory = self.levels.last().ok_or(Errno::NOENT)?;
        let name = self.path.names().next_back().ok_or(Errno::NOENT)?;
        operation(directory, name)
    }

    fn leave(&mut self) -> Option<Result<Visit, FileError>> {
        self.levels.pop();
        if self.levels.is_empty() {
            return None;
        }
        self.at_entry = true;
        Some(Ok(Visit::Left))
    }

    fn arrive(&mut self, name: &[u8], kind: Option<Kind>) -> Result<Option<Kind>, FileError> {
        let fail = |path: &WorkspacePath, reason| {
            FileError::new("name an entry of", path, FileErrorKind::BadPath(reason))
        };
        let name = Name::parse(name).map_err(|reason| fail(&self.path, reason))?;
        self.path.push(name).map_err(|reason| fail(&self.path, reason))?;
        self.at_entry = true;
        if let Some(kind) = kind {
            return Ok(Some(kind));
        }
        match self.with_entry(Directory::stat) {
            Ok(metadata) => Ok(Some(metadata.kind)),
            Err(Errno::NOENT) => {
                self.path.pop();
                self.at_entry = false;
                Ok(None)
            }
            Err(errno) => Err(FileError::from_errno("examine", &self.path, errno)),
        }
    }
}

impl Iterator for Walk {
    type Item = Result<Visit, FileError>;

    /// Goes on. An error is about one directory or entry; the walk can be continued after it.
    fn next(&mut self) -> Option<Self::Item> {
        if std::mem::take(&mut self.at_entry) {
            self.path.pop();
        }
        loop {
            let Some(entry) = self.levels.last_mut()?.next_entry() else { return self.leave() };
            let found = entry
                .map_err(|errno| FileError::from_errno("list", &self.path, errno))
                .and_then(|(name, kind)| self.arrive(&name, kind));
            match found {
                Ok(None) => {}
                Ok(Some(kind)) => return Some(Ok(Visit::Entry(kind))),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
