//! Between HTTP bodies, which are asynchronous, and files and archives, which block.
//!
//! Both directions are channels of a few chunks: memory stays constant, and whichever side is
//! slower slows the other. Both carry their end explicitly. A channel that closes without it means
//! that the other side went away, and is an error, never an end: a cut upload cannot pass for a
//! short one.

use std::{
    io::{self, Read, Write},
    sync::Arc,
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures_util::stream;
use http::StatusCode;
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use workspace_common::{
    body::{Body, BoxError},
    problem::Problem,
};

/// Bytes moved at once. Over Unix sockets 64 KiB costs a fifth to two fifths of the throughput, and
/// more than this gains nothing.
pub const CHUNK: usize = 256 * 1024;
/// Chunks that wait between the two sides.
const DEPTH: usize = 2;
/// How much of an upload is still read after it was refused, so that the client gets to read the
/// answer instead of a broken pipe. Beyond it the connection is cut.
const MAX_DISCARDED: u64 = 64 * 1024 * 1024;
/// Longest wait for the next bytes of an upload; a sender that is silent for so long is gone, and
/// its thread and its temporary file are wanted back.
pub const UPLOAD_SILENCE: Duration = Duration::from_secs(120);

enum Part {
    Bytes(Bytes),
    End,
    Failed(io::ErrorKind),
}

/// The asynchronous end of an upload.
#[derive(Debug)]
pub struct Feed(mpsc::Sender<Part>);

/// The blocking end of an upload.
#[derive(Debug)]
pub struct Intake {
    parts: mpsc::Receiver<Part>,
    current: Bytes,
    ended: bool,
}

/// Both ends of an upload.
pub fn upload() -> (Feed, Intake) {
    let (sender, parts) = mpsc::channel(DEPTH);
    (Feed(sender), Intake { parts, current: Bytes::new(), ended: false })
}

impl Feed {
    /// Moves `body` to the intake until its end. When the intake is dropped earlier the rest is read
    /// and thrown away, so that the answer can be sent.
    pub async fn pump<B>(self, body: B)
    where
        B: HttpBody<Data = Bytes>,
    {
        let mut body = std::pin::pin!(body);
        let mut discarded = 0;
        loop {
            let part = match tokio::time::timeout(UPLOAD_SILENCE, body.frame()).await {
                Err(_elapsed) => Part::Failed(io::ErrorKind::TimedOut),
                Ok(None) => Part::End,
                Ok(Some(Err(_broken))) => Part::Failed(io::ErrorKind::UnexpectedEof),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => Part::Bytes(bytes),
                    Err(_trailers) => continue,
                },
            };
            let length = match &part {
                Part::Bytes(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
                Part::End | Part::Failed(_) => u64::MAX,
            };
            if self.0.send(part).await.is_err() {
                discarded = u64::saturating_add(discarded, length);
            }
            if length == u64::MAX || discarded > MAX_DISCARDED {
                return;
            }
        }
    }
}

impl Read for Intake {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.parts.blocking_recv() {
                Some(Part::Bytes(bytes)) => self.current = bytes,
                Some(Part::End) => self.ended = true,
                Some(Part::Failed(kind)) => return Err(kind.into()),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let length = self.current.len().min(buffer.len());
        if let Some(target) = buffer.get_mut(..length) {
            self.current.copy_to_slice(target);
        }
        Ok(length)
    }
}

/// Places for transfers: each holds a blocking thread for as long as its client takes, and without
/// a limit stalled clients would leave none for anybody else.
#[derive(Debug, Clone)]
pub struct Transfers {
    places: Arc<Semaphore>,
    limit: usize,
}

impl Transfers {
    /// Allows `limit` transfers at once.
    pub fn new(limit: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(limit)), limit }
    }

    /// Takes a place, until the permit is dropped.
    ///
    /// # Errors
    /// 429 when there is none: waiting for a client that has stalled helps nobody.
    pub fn begin(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.places.clone().try_acquire_owned().map_err(|_full| {
            let detail = format!(
                "{} transfers are under way, which is the limit; try again later",
                self.limit
            );
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_transfers", detail)
        })
    }
}

/// What was made of a request's head, with its body. Where the head is refused, the body is read to its
/// end first, so that the client gets to read the answer.
///
/// # Errors
/// The refusal.
pub async fn or_discard<T, B>(prepared: Result<T, Problem>, body: B) -> Result<(T, B), Problem>
where
    B: HttpBody<Data = Bytes>,
{
    match prepared {
        Ok(prepared) => Ok((prepared, body)),
        Err(problem) => {
            let (feed, intake) = upload();
            drop(intake);
            feed.pump(body).await;
            Err(problem)
        }
    }
}

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

    fn send(&self, part: Result<Option<Bytes>, BoxError>) -> io::Result<()> {
        self.parts.blocking_send(part).map_err(|_cause| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.capacity() == 0 {
            self.buffer.reserve_exact(CHUNK);
        }
        let length = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(bytes.get(..length).unwrap_or_default());
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
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
    use http_body_util::channel::Channel;
    use workspace_common::body::full;

    use super::*;

    async fn read_all(intake: Intake) -> io::Result<Vec<u8>> {
        let mut intake = intake;
        tokio::task::spawn_blocking(move || {
            let mut content = Vec::new();
            intake.read_to_end(&mut content).map(|_| content)
        })
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn an_upload_arrives_whole() {
        let (feed, intake) = upload();
        let (content, ()) = tokio::join!(read_all(intake), feed.pump(full("content")));
        assert_eq!(content.unwrap(), b"content");
    }

    #[tokio::test]
    async fn an_upload_that_is_cut_is_an_error_and_not_an_end() {
        let (feed, intake) = upload();
        let (mut sender, body) = Channel::<Bytes, io::Error>::new(1);
        sender.send_data("half".into()).await.unwrap();
        sender.abort(io::ErrorKind::ConnectionReset.into());
        let (content, ()) = tokio::join!(read_all(intake), feed.pump(body));
        assert_eq!(content.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (feed, intake) = upload();
        drop(feed);
        assert_eq!(read_all(intake).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn an_upload_that_nobody_wants_is_still_read_to_its_end() {
        let (feed, intake) = upload();
        drop(intake);
        let (mut sender, body) = Channel::<Bytes, io::Error>::new(1);
        let send = async move {
            for _ in 0..100 {
                sender.send_data(Bytes::from_static(&[0; 4096])).await.unwrap();
            }
        };
        tokio::join!(feed.pump(body), send);
    }

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
}
