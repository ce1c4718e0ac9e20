//! Files that do not fit the buffer, sent as they are read.

use std::{fs::File, io};

use super::{PackError, Packer, as_u64};
use crate::{
    files::{
        FileError, FileErrorKind, WorkspacePath,
        transfer::{TakeError, TakeFile},
    },
    sync::archive::Member,
};

impl<W: TakeFile> Packer<'_, W> {
    /// Sends a file whose first bytes are already in the buffer.
    pub(super) fn append_large(
        &mut self,
        (path, member): (&WorkspacePath, &Member),
        size: u64,
        first: usize,
        file: &File,
    ) -> Result<(), PackError> {
        let start = self.buffer.get(..first).unwrap_or_default();
        self.archive
            .append(member)
            .and_then(|()| self.archive.write_content(start))
            // What follows is read in whole pieces of the file, as the kernel has it.
            .and_then(|()| self.archive.flush())
            .map_err(PackError::Output)?;
        let mut so_far = self.report.clone();
        let mut left = size - as_u64(first);
        while left > 0 {
            let length = self.archive.write_from(file, left).map_err(|error| cut(path, error))?;
            if length == 0 {
                return Err(cut_by(FileError::new("pack", path, FileErrorKind::Changed)));
            }
            left -= as_u64(length);
            so_far.bytes = self.report.bytes + size - left;
            (self.progress)(&so_far);
        }
        self.archive.pad(size).map_err(PackError::Output)
    }
}

fn cut(path: &WorkspacePath, error: TakeError) -> PackError {
    match error {
        TakeError::Read(error) => cut_by(FileError::from_io("read", path, &error)),
        TakeError::Write(error) => PackError::Output(error),
    }
}

/// The header with the size is on its way, so what happens to the file now cannot be mended.
fn cut_by(error: FileError) -> PackError {
    PackError::Output(io::Error::other(error))
}
