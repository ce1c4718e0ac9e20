//! Bodies that come in, for who blocks.

use std::{
    io::{self, BufRead, Read},
    pin::Pin,
    time::Duration,
};

use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep},
};

/// Parts of an upload that wait between the two sides; the blocking one takes all of them at once. To
/// wake the other side for each part costs as much as to move it.
const PARTS: usize = 8;
/// How much of an upload is still read after it was refused, so that the client gets to read the
/// answer instead of a broken pipe. Beyond it the connection is cut.
const MAX_DISCARDED: u64 = 64 * 1024 * 1024;
/// Longest wait for the next bytes of an upload; a sender that is silent for so long is gone, and
/// its thread and its temporary file are wanted back.
pub const UPLOAD_SILENCE: Duration = Duration::from_secs(120);

#[derive(Debug)]
enum Part {
    Bytes(Bytes),
    End,
    Failed(io::ErrorKind),
}

/// The asynchronous end of an upload.
#[derive(Debug)]
pub struct Feed(mpsc::Sender<Part>);

/// The blocking end of an upload. What came is to be had without a copy, as a [`BufRead`].
#[derive(Debug)]
pub struct Intake {
    parts: mpsc::Receiver<Part>,
    /// Taken, and not yet looked at; the next one last.
    taken: Vec<Part>,
    current: Bytes,
    ended: bool,
}

/// Both ends of an upload.
pub fn upload() -> (Feed, Intake) {
    let (sender, parts) = mpsc::channel(PARTS);
    let taken = Vec::with_capacity(PARTS);
    (Feed(sender), Intake { parts, taken, current: Bytes::new(), ended: false })
}

impl Feed {
    /// Moves `body` to the intake until its end. When the intake is dropped earlier the rest is read
    /// and thrown away, so that the answer can be sent.
    pub async fn pump<B>(self, body: B)
    where
        B: HttpBody<Data = Bytes>,
    {
        let mut body = std::pin::pin!(body);
        let mut timer = std::pin::pin!(tokio::time::sleep(UPLOAD_SILENCE));
        let mut discarded = 0;
        loop {
            let part = tokio::select! {
                biased;
                frame = body.frame() => part_of(frame),
                () = silence(timer.as_mut(), Instant::now()) => {
                    Some(Part::Failed(io::ErrorKind::TimedOut))
                }
            };
            let Some(part) = part else { continue };
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

/// Resolves when nothing has come for too long since `last`. The timer is set anew when it has run off
/// and not for each frame: whoever sets one wakes the thread that waits for the next.
async fn silence(mut timer: Pin<&mut Sleep>, last: Instant) {
    loop {
        timer.as_mut().await;
        let end = last + UPLOAD_SILENCE;
        if end <= Instant::now() {
            return;
        }
        timer.as_mut().reset(end);
    }
}

/// What a frame is to the other side; trailers are nothing.
fn part_of<E>(frame: Option<Result<Frame<Bytes>, E>>) -> Option<Part> {
    match frame {
        None => Some(Part::End),
        Some(Err(_broken)) => Some(Part::Failed(io::ErrorKind::UnexpectedEof)),
        Some(Ok(frame)) => frame.into_data().ok().map(Part::Bytes),
    }
}

impl Intake {
    /// Waits for the next part.
    fn next(&mut self) -> Option<Part> {
        if self.taken.is_empty() {
            self.parts.blocking_recv_many(&mut self.taken, PARTS);
            self.taken.reverse();
        }
        self.taken.pop()
    }
}

impl BufRead for Intake {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.ended {
            match self.next() {
                Some(Part::Bytes(bytes)) => self.current = bytes,
                Some(Part::End) => self.ended = true,
                Some(Part::Failed(kind)) => return Err(kind.into()),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, length: usize) {
        self.current.advance(length);
    }
}

impl Read for Intake {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
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
}
