//! Where a file from the workspace is written: beside its name, which it gets when it is whole, or
//! to standard output.

use std::{
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::super::failure::Failure;
use crate::files::{FileError, Root, WorkspacePath, temporary::TemporaryFile};

/// Mode of a file of which the agent does not tell one.
const DEFAULT_MODE: u32 = 0o644;

/// A name on this machine.
#[derive(Debug)]
pub(super) struct Place {
    /// The directory that it is in.
    pub(super) directory: PathBuf,
    /// The name in it; none stands for standard output.
    name: Option<WorkspacePath>,
}

impl Place {
    pub(super) fn parse(file: Option<&Path>, remote: &WorkspacePath) -> Result<Self, Failure> {
        let own_name = || match remote.split_last() {
            Some((_, name)) => Ok(name.as_bytes().to_vec()),
            None => Err(Failure::RemoteDirectory { path: remote.to_string() }),
        };
        let (directory, name) = match file {
            Some(file) if file == Path::new("-") => {
                return Ok(Self { directory: PathBuf::from("."), name: None });
            }
            Some(file) if file.is_dir() => (file.to_owned(), own_name()?),
            Some(file) => {
                let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
                let name = file.file_name().map(|name| name.as_bytes().to_vec());
                (directory.unwrap_or_else(|| Path::new(".")).to_owned(), name.unwrap_or_default())
            }
            None => (PathBuf::from("."), own_name()?),
        };
        let name = WorkspacePath::parse(&name)
            .map_err(|reason| Failure::RemotePath { path: remote.to_string(), reason })?;
        Ok(Self { directory, name: Some(name) })
    }
}

/// What is written to.
#[derive(Debug)]
pub(super) enum Sink<'a> {
    File { root: &'a Root, file: TemporaryFile<'a> },
    Output,
}

impl<'a> Sink<'a> {
    pub(super) fn open(root: &'a Root, place: &Place) -> Result<Self, Failure> {
        if place.name.is_none() {
            return Ok(Self::Output);
        }
        let file = TemporaryFile::create(root.directory()).map_err(io::Error::from)?;
        Ok(Self::File { root, file })
    }

    /// Begins again. What is on standard output already cannot be taken back.
    pub(super) fn restart(&mut self) -> Result<(), Failure> {
        match self {
            Self::File { root, file } => {
                *file = TemporaryFile::create(root.directory()).map_err(io::Error::from)?;
                Ok(())
            }
            Self::Output => Err(Failure::RemoteChanged),
        }
    }

    /// Gives the file its name.
    pub(super) fn finish(
        self,
        place: &Place,
        mode: Option<u32>,
        size: u64,
    ) -> Result<ExitCode, Failure> {
        let name = place.name.as_ref().and_then(WorkspacePath::split_last);
        let (Self::File { file, .. }, Some((_, name)), Some(path)) = (self, name, &place.name)
        else {
            io::stdout().flush()?;
            return Ok(ExitCode::SUCCESS);
        };
        let fail = |errno| Failure::LocalFile {
            path: place.directory.join(path.to_string()),
            source: io::Error::other(FileError::from_errno("write", path, errno)),
        };
        file.set_mode(mode.unwrap_or(DEFAULT_MODE)).map_err(fail)?;
        file.publish(name).map_err(fail)?;
        writeln!(io::stdout(), "got {path}: {size} B")?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File { file, .. } => file.write(bytes),
            Self::Output => io::stdout().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File { file, .. } => file.flush(),
            Self::Output => io::stdout().flush(),
        }
    }
}
