//! Files that do not fit the buffer, sent as they are read.

use std::{
    fs::File,
    io::{self, Read, Write},
};

use super::{PackError, Packer, as_u64};
use crate::{
    files::{FileError, FileErrorKind, WorkspacePath},
    sync::archive::{Member, Report},
};

impl<W: Write> Packer<'_, W> {
    /// Sends a file whose first bytes are already in the buffer.
    pub(super) fn append_large(
        &mut self,
        (path, member): (&WorkspacePath, &Member),
        size: u64,
        first: usize,
        file: File,
    ) -> Result<(), PackError> {
        let start = self.buffer.get(..first).unwrap_or_default().to_vec();
        let mut content = Watched {
            inner: start.as_slice().chain(file),
            failed: false,
            before: self.report.clone(),
            progress: &mut *self.progress,
        };
        let sent = self.archive.append_file(member, size, &mut content, &mut self.buffer);
        let failed_to_read = content.failed;
        sent.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                // The header with the size is on its way, so this cannot be mended.
                let error = FileError::new("pack", path, FileErrorKind::Changed);
                PackError::Output(io::Error::other(error))
            }
            _ if failed_to_read => {
                PackError::Output(io::Error::other(FileError::from_io("read", path, &error)))
            }
            _ => PackError::Output(error),
        })
    }
}

/// Content that reports how much of it went through.
struct Watched<'p, R> {
    inner: R,
    failed: bool,
    before: Report,
    progress: &'p mut dyn FnMut(&Report),
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.inner.read(buffer);
        match &result {
            Ok(length) => {
                self.before.bytes += as_u64(*length);
                (self.progress)(&self.before);
            }
            Err(_) => self.failed = true,
        }
        result
    }
}
