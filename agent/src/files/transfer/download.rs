//! Bodies that go out, made by who blocks.

use std::{
    fs::File,
    io::{self, Write},
};

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use rustix::{buffer::spare_capacity, io::retry_on_intr};
use tokio::sync::mpsc;
use workspace_common::body::{Body, BoxError};

use super::CHUNK;

/// Chunks of a download that wait between the two sides.
const DEPTH: usize = 2;

/// The blocking end of a download.
#[derive(Debug)]
pub struct Outlet {
    parts: mpsc::Sender<Result<Option<Bytes>, BoxError>>,
    buffer: Vec<u8>,
}

/// Both ends of a download.
pub fn download() -> (Outlet, Body) {
    let (sender, receiver) = mpsc::channel(DEPTH);
    let frames = stream::unfold(Some(receiver), |receiver| async move {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Ok(Some(bytes))) => Some((Ok(Frame::data(bytes)), Some(receiver))),
            Some(Ok(None)) => None,
            Some(Err(error)) => Some((Err(error), None)),
            None => Some((Err("the sender stopped before the end".into()), None)),
        }
    });
    (Outlet { parts: sender, buffer: Vec::new() }, StreamBody::new(frames).boxed_unsync())
}

impl Outlet {
    /// Sends what is buffered and the end.
    ///
    /// # Errors
    /// When the receiver is gone.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.send(Ok(None))
    }

    /// Ends the body with an error: the connection is cut, and the client sees that the content is
    /// not whole.
    pub fn fail(&self, error: impl Into<BoxError>) {
        if self.send(Err(error.into())).is_err() {
            tracing::debug!("the receiver of a failed download was gone already");
        }
    }

    fn make_room(&mut self) {
        if self.buffer.capacity() == 0 {
            self.buffer.reserve_exact(CHUNK);
        }
    }

    fn flush_full(&mut self) -> io::Result<()> {
        if self.buffer.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn send(&self, part: Result<Option<Bytes>, BoxError>) -> io::Result<()> {
        self.parts.blocking_send(part).map_err(|_cause| io::ErrorKind::BrokenPipe.into())
    }
}

/// Where the next bytes of a file can go.
pub trait TakeFile: Write {
    /// Takes at most `limit` of the next bytes of `file`; says how many, none at its end.
    ///
    /// # Errors
    /// Which side failed, and why.
    fn take_file(&mut self, file: &File, limit: u64) -> Result<usize, TakeError>;
}

/// Takes by way of a buffer, where the output wants the bytes in another form.
///
/// # Errors
/// As [`TakeFile::take_file`].
pub fn take_by_copy(output: &mut impl Write, file: &File, limit: u64) -> Result<usize, TakeError> {
    let limit = usize::try_from(limit).map_or(CHUNK, |limit| limit.min(CHUNK));
    let mut piece = vec![0; limit];
    let length = retry_on_intr(|| rustix::io::read(file, &mut piece))
        .map_err(|errno| TakeError::Read(errno.into()))?;
    let bytes = piece.get(..length).unwrap_or_default();
    output.write_all(bytes).map_err(TakeError::Write)?;
    Ok(length)
}

/// Why the bytes of a file could not be taken.
#[derive(Debug)]
pub enum TakeError {
    /// The file could not be read.
    Read(io::Error),
    /// Whoever takes them could not.
    Write(io::Error),
}

impl TakeFile for Vec<u8> {
    fn take_file(&mut self, file: &File, limit: u64) -> Result<usize, TakeError> {
        take_by_copy(self, file, limit)
    }
}

impl<T: TakeFile> TakeFile for &mut T {
    fn take_file(&mut self, file: &File, limit: u64) -> Result<usize, TakeError> {
        (**self).take_file(file, limit)
    }
}

impl TakeFile for Outlet {
    /// Reads into the very memory that is sent.
    fn take_file(&mut self, file: &File, limit: u64) -> Result<usize, TakeError> {
        self.make_room();
        let before = self.buffer.len();
        retry_on_intr(|| rustix::io::read(file, spare_capacity(&mut self.buffer)))
            .map_err(|errno| TakeError::Read(errno.into()))?;
        // What the file has gained meanwhile is more than was asked for.
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.buffer.truncate(before.saturating_add(limit));
        let length = self.buffer.len() - before;
        self.flush_full().map_err(TakeError::Write)?;
        Ok(length)
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.make_room();
        let length = bytes.len().min(CHUNK.saturating_sub(self.buffer.len()));
        self.buffer.extend_from_slice(bytes.get(..length).unwrap_or_default());
        self.flush_full()?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::take(&mut self.buffer);
        self.send(Ok(Some(full.into())))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom};

    use super::*;

    #[tokio::test]
    async fn a_download_without_an_end_is_an_error() {
        let (mut outlet, body) = download();
        let sending = tokio::task::spawn_blocking(move || {
            outlet.write_all(&[7; CHUNK + 1]).unwrap();
            outlet.finish().unwrap();
        });
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), CHUNK + 1);
        sending.await.unwrap();
        let (outlet, body) = download();
        drop(outlet);
        assert!(body.collect().await.is_err());
    }

    #[tokio::test]
    async fn a_file_is_taken_as_far_as_it_is_asked_for() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 2 * CHUNK]).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let (mut outlet, body) = download();
        let sending = tokio::task::spawn_blocking(move || {
            outlet.write_all(b"head").unwrap();
            let mut left = CHUNK as u64 + 5;
            while left > 0 {
                left -= outlet.take_file(&file, left).unwrap() as u64;
            }
            outlet.write_all(b"tail").unwrap();
            outlet.finish().unwrap();
        });
        let content = body.collect().await.unwrap().to_bytes();
        sending.await.unwrap();
        assert_eq!(content, [&b"head"[..], &[7; CHUNK + 5], b"tail"].concat());
    }

    #[test]
    fn nothing_is_taken_at_the_end_of_a_file() {
        let file = tempfile::tempfile().unwrap();
        let (mut outlet, _body) = download();
        assert_eq!(outlet.take_file(&file, 9).unwrap(), 0);
        assert_eq!(Vec::new().take_file(&file, 9).unwrap(), 0);
    }
}
