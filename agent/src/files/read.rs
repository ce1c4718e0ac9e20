//! `GET` and `HEAD` of a file: streamed in chunks, whole or a part, with its length, tag and time.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use workspace_common::{
    body::{Body, BoxError, empty, full},
    problem::Problem,
};

use super::{
    conditions::State,
    digest::{ContentDigest, REPR_DIGEST},
    error::{FileError, FileErrorKind},
    metadata::{FileTime, Metadata},
    path::WorkspacePath,
    range::Selection,
    transfer::CHUNK,
};

/// A file ready to be sent.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: File,
    metadata: Metadata,
    /// The content, where it fits one chunk: most files do, and need no second thread.
    content: Option<Vec<u8>>,
    digest: Option<ContentDigest>,
}

impl OpenFile {
    /// Reads the content of a small file at once, and hashes it where that is wanted; for blocking
    /// threads.
    pub(super) fn load(
        path: &WorkspacePath,
        mut file: File,
        metadata: Metadata,
        digest: Wanted,
    ) -> Result<Self, FileError> {
        let fail = |error| FileError::from_io("read", path, &error);
        let small = usize::try_from(metadata.size).is_ok_and(|size| size <= CHUNK);
        let content = small.then(|| read_up_to(&mut file, CHUNK)).transpose().map_err(fail)?;
        // A file that grew past one chunk since it was measured is streamed at its measured size.
        let whole = content.filter(|content| content.len() < CHUNK || metadata.size == CHUNK_U64);
        let digest = match (digest, &whole) {
            (Wanted::No, _) => None,
            (Wanted::Yes, Some(content)) => {
                Some(ContentDigest::of(Sha256::new_with_prefix(content)))
            }
            (Wanted::Yes, None) => {
                let digest = ContentDigest::of_file(&mut file).map_err(fail)?;
                // Length, tag and digest of an answer are those of one content.
                if measure(&file).map_err(fail)? != (metadata.size, metadata.modified) {
                    return Err(FileError::new("read", path, FileErrorKind::Changed));
                }
                Some(digest)
            }
        };
        Ok(Self { file, metadata, content: whole, digest })
    }

    /// The state that conditions are about.
    pub(super) fn state(&self) -> State {
        State::from(&self.metadata)
    }

    /// How long the content is.
    pub(super) fn size(&self) -> u64 {
        self.content.as_ref().map_or(self.metadata.size, |content| length_of(content))
    }

    /// The answer to `HEAD`.
    pub(super) fn head(&self) -> Response<Body> {
        self.respond(StatusCode::OK, self.size(), empty())
    }

    /// The answer to one who has this state: the fields without the content (RFC 9110 section
    /// 15.4.5).
    pub(super) fn not_modified(&self) -> Response<Body> {
        let mut response = self.respond(StatusCode::NOT_MODIFIED, 0, empty());
        for content in [header::CONTENT_LENGTH, header::CONTENT_TYPE] {
            response.headers_mut().remove(content);
        }
        response
    }

    /// The answer to `GET`.
    pub(super) fn answer(self, selection: Selection) -> Response<Body> {
        let size = self.size();
        match selection {
            Selection::Whole => self.send(StatusCode::OK, 0, size),
            Selection::Part { first, last } => {
                let mut response = self.send(StatusCode::PARTIAL_CONTENT, first, last - first + 1);
                let range = format!("bytes {first}-{last}/{size}");
                insert(response.headers_mut(), header::CONTENT_RANGE, &range);
                response
            }
            Selection::Unsatisfiable => unsatisfiable(size),
        }
    }

    fn send(self, status: StatusCode, from: u64, length: u64) -> Response<Body> {
        let mut response = self.respond(status, length, empty());
        *response.body_mut() = match self.content {
            Some(content) => full(part_of(content, from, length)),
            None => stream(self.file, from, length),
        };
        response
    }

    fn respond(&self, status: StatusCode, length: u64, body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(header::CONTENT_LENGTH, length.into());
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        insert(headers, header::ETAG, &self.metadata.etag());
        insert(headers, header::LAST_MODIFIED, &self.metadata.modified.to_http_date());
        if let Some(digest) = self.digest {
            insert(headers, REPR_DIGEST.clone(), &digest.to_field());
        }
        describe(headers, &self.metadata);
        response
    }
}

/// What kind of entry it is, and its mode: what a listing tells, for one entry.
pub(super) fn describe(headers: &mut HeaderMap, metadata: &Metadata) {
    headers.insert("workspace-kind", HeaderValue::from_static(metadata.kind.as_str()));
    let mode = format!("{:04o}", metadata.mode);
    insert(headers, HeaderName::from_static("workspace-mode"), &mode);
}

/// 416, with the size that there is (RFC 9110 section 15.5.17).
fn unsatisfiable(size: u64) -> Response<Body> {
    let detail = format!("the range begins behind the end of the file, which has {size} bytes");
    let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", detail);
    let mut response = problem.response();
    insert(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{size}"));
    response
}

fn part_of(content: Vec<u8>, from: u64, length: u64) -> Bytes {
    let content = Bytes::from(content);
    let within = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
    let (start, end) = (within(from), within(from.saturating_add(length)));
    content.slice(start..end)
}

/// What tells that the content has changed.
fn measure(file: &File) -> io::Result<(u64, FileTime)> {
    let now = Metadata::from(&rustix::fs::fstat(file)?);
    Ok((now.size, now.modified))
}

/// Whether a digest is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// It is, at the price of reading the whole file before the answer begins.
    Yes,
    /// It is not.
    No,
}

const CHUNK_U64: u64 = CHUNK as u64;

fn length_of(content: &[u8]) -> u64 {
    u64::try_from(content.len()).unwrap_or(u64::MAX)
}

pub(super) fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // Tags, dates and digests are ASCII, so the conversion cannot fail; without the header the
    // answer is still right.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

type NextChunk = JoinHandle<io::Result<(File, Vec<u8>)>>;

/// Streams exactly `size` bytes from an offset on. While a chunk is on its way to the client the next one is read; a
/// client that does not read holds no thread.
fn stream(file: File, from: u64, size: u64) -> Body {
    let first = Some((read_from(file, from, size), size));
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

fn read_from(mut file: File, from: u64, left: u64) -> NextChunk {
    tokio::task::spawn_blocking(move || {
        file.seek(SeekFrom::Start(from))?;
        read_next(file, left)
    })
}

fn read_ahead(file: File, left: u64) -> NextChunk {
    tokio::task::spawn_blocking(move || read_next(file, left))
}

fn read_next(mut file: File, left: u64) -> io::Result<(File, Vec<u8>)> {
    let length = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
    let chunk = read_up_to(&mut file, length)?;
    Ok((file, chunk))
}

fn read_up_to(file: &mut File, length: usize) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(length).unwrap_or(u64::MAX);
    let mut chunk = Vec::with_capacity(length);
    file.take(limit).read_to_end(&mut chunk)?;
    Ok(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_while_it_is_hashed_is_not_told_as_what_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let name = directory.path().join("f");
        let path = WorkspacePath::parse(b"f").unwrap();
        let load = |size: u64, digest| {
            std::fs::write(&name, vec![7; 2 * CHUNK]).unwrap();
            let file = File::open(&name).unwrap();
            let metadata = Metadata::from(&rustix::fs::fstat(&file).unwrap());
            File::options().write(true).open(&name).unwrap().set_len(size).unwrap();
            OpenFile::load(&path, file, metadata, digest)
        };
        for size in [0, CHUNK_U64, 3 * CHUNK_U64] {
            let refused = load(size, Wanted::Yes).unwrap_err();
            assert_eq!(refused.kind(), FileErrorKind::Changed, "{size}");
            assert!(load(size, Wanted::No).is_ok(), "{size}");
        }
    }
}
