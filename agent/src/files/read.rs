//! `GET` and `HEAD` of a file: streamed in chunks, with its length, tag and time.

use std::{
    fs::File,
    io::{self, Read},
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::task::JoinHandle;
use workspace_common::body::{Body, BoxError, empty, full};

use super::{
    error::{FileError, FileErrorKind},
    metadata::Metadata,
    path::WorkspacePath,
    transfer::CHUNK,
};

/// A file ready to be sent.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: File,
    metadata: Metadata,
    /// The content, where it fits one chunk: most files do, and need no second thread.
    content: Option<Vec<u8>>,
}

impl OpenFile {
    /// Reads the content of a small file at once; for blocking threads.
    pub(super) fn load(
        path: &WorkspacePath,
        mut file: File,
        metadata: Metadata,
    ) -> Result<Self, FileError> {
        let small = usize::try_from(metadata.size).is_ok_and(|size| size <= CHUNK);
        let content = small
            .then(|| read_up_to(&mut file, CHUNK))
            .transpose()
            .map_err(|error| FileError::from_io("read", path, &error))?;
        // A file that grew past one chunk since it was measured is streamed at its measured size.
        let whole = content.filter(|content| content.len() < CHUNK || metadata.size == CHUNK_U64);
        Ok(Self { file, metadata, content: whole })
    }

    /// The answer to `HEAD`.
    pub(super) fn head(&self) -> Response<Body> {
        let length = self.content.as_ref().map_or(self.metadata.size, |content| length_of(content));
        respond(&self.metadata, length, empty())
    }

    /// The answer to `GET`.
    pub(super) fn answer(self) -> Response<Body> {
        match self.content {
            Some(content) => respond(&self.metadata, length_of(&content), full(content)),
            None => {
                respond(&self.metadata, self.metadata.size, stream(self.file, self.metadata.size))
            }
        }
    }
}

const CHUNK_U64: u64 = CHUNK as u64;

fn length_of(content: &[u8]) -> u64 {
    u64::try_from(content.len()).unwrap_or(u64::MAX)
}

fn respond(metadata: &Metadata, length: u64, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, length.into());
    insert(headers, header::ETAG, &metadata.etag());
    insert(headers, header::LAST_MODIFIED, &metadata.modified.to_http_date());
    response
}

pub(super) fn insert(headers: &mut http::HeaderMap, name: header::HeaderName, value: &str) {
    // Tags and dates are ASCII, so the conversion cannot fail; without the header the answer is
    // still right.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

type NextChunk = JoinHandle<io::Result<(File, Vec<u8>)>>;

/// Streams exactly `size` bytes. While a chunk is on its way to the client the next one is read; a
/// client that does not read holds no thread.
fn stream(file: File, size: u64) -> Body {
    let first = Some((read_ahead(file, size), size));
    let frames = stream::unfold(first, |state| async move {
        let (reading, left): (NextChunk, u64) = state?;
        if left == 0 {
            return None;
        }
        let chunk = reading.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
        let (file, chunk) = match chunk {
            Ok((_, chunk)) if chunk.is_empty() => {
                return Some((Err(FileErrorKind::Changed.to_string().into()), None));
            }
            Ok(read) => read,
            Err(error) => return Some((Err(BoxError::from(error)), None)),
        };
        let left = left.saturating_sub(length_of(&chunk));
        let frame = Frame::data(Bytes::from(chunk));
        Some((Ok(frame), Some((read_ahead(file, left), left))))
    });
    StreamBody::new(frames).boxed_unsync()
}

fn read_ahead(mut file: File, left: u64) -> NextChunk {
    tokio::task::spawn_blocking(move || {
        let length = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
        let chunk = read_up_to(&mut file, length)?;
        Ok((file, chunk))
    })
}

fn read_up_to(file: &mut File, length: usize) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(length).unwrap_or(u64::MAX);
    let mut chunk = Vec::with_capacity(length);
    file.take(limit).read_to_end(&mut chunk)?;
    Ok(chunk)
}
