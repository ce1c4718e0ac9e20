//! A connection to an origin, with the framing of every answer's head checked before the HTTP library
//! reads it: the library drops one of two lengths, and swallows interim answers without an end.
//!
//! A gate is closed with each request and opened by the final head, so that bodies pass untouched.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::strict::head::parse_length;

/// Largest head that is waited for.
const MAX_HEAD: usize = 256 * 1024;
/// Most interim answers (1xx) before the final one.
const MAX_INTERIM: u8 = 16;
/// Bytes that are asked for at a time.
const STEP: usize = 8192;

/// Closed with each request: the next bytes are the head of its answer.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    /// Has the next bytes taken for a head.
    pub fn close(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn open(&self) {
        self.0.store(false, Ordering::Release);
    }

    fn is_closed(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A stream whose answers' heads are checked.
#[derive(Debug)]
pub struct Answers<S> {
    inner: S,
    gate: Gate,
    held: BytesMut,
    released: usize,
    /// Bytes of `held` in which no head ends: an origin that sends byte by byte costs no more than
    /// another.
    searched: usize,
    interim: u8,
}

impl<S> Answers<S> {
    /// Wraps a fresh connection.
    #[must_use]
    pub fn new(inner: S) -> Self {
        let (gate, held) = (Gate::default(), BytesMut::new());
        Self { inner, gate, held, released: 0, searched: 0, interim: 0 }
    }

    /// The gate, for who sends the requests.
    #[must_use]
    pub fn gate(&self) -> Gate {
        self.gate.clone()
    }

    /// Releases what is whole and in order. False when more is needed.
    fn advance(&mut self) -> io::Result<bool> {
        let Some(end) = end_of_head(&self.held, self.searched) else {
            // The last three may be the beginning of the end.
            self.searched = self.held.len().saturating_sub(3);
            return if self.held.len() > MAX_HEAD { Err(broken()) } else { Ok(false) };
        };
        self.searched = 0;
        if is_interim(check(self.held.get(..end).unwrap_or_default())?) {
            self.interim += 1;
            self.released = end;
            return if self.interim > MAX_INTERIM { Err(broken()) } else { Ok(true) };
        }
        self.pass();
        self.released = self.held.len();
        Ok(true)
    }

    /// The final head has been found in order.
    fn pass(&mut self) {
        self.interim = 0;
        self.gate.open();
    }

    fn hand_on(&mut self, out: &mut ReadBuf<'_>) {
        let part = self.held.split_to(self.released.min(out.remaining()));
        self.released -= part.len();
        out.put_slice(&part);
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the answer can be read in two ways")
}

/// 101 is no interim answer: after it the connection is something else.
const fn is_interim(status: u16) -> bool {
    status >= 100 && status < 200 && status != 101
}

/// Whether `new` begins with the whole of a final head. Most answers do, and need not be held.
fn is_final(new: &[u8]) -> io::Result<bool> {
    let Some(end) = end_of_head(new, 0) else { return Ok(false) };
    Ok(!is_interim(check(new.get(..end).unwrap_or_default())?))
}

/// Line ends may be of either kind here: the answer is written anew for the client.
fn end_of_head(bytes: &[u8], searched: usize) -> Option<usize> {
    let empty = |at: &usize| {
        let rest = bytes.get(*at + 1..).unwrap_or_default();
        rest.starts_with(b"\n") || rest.starts_with(b"\r\n")
    };
    let mut ends = (searched..bytes.len()).filter(|at| bytes.get(*at) == Some(&b'\n'));
    let at = ends.find(empty)?;
    let rest = bytes.get(at + 1..)?;
    Some(at + 1 + if rest.starts_with(b"\n") { 1 } else { 2 })
}

/// The status. What is no HTTP at all is left to the library to refuse.
fn check(head: &[u8]) -> io::Result<u16> {
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let status = lines.next().and_then(|line| line.get(9..12));
    let status = status.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    let (mut lengths, mut codings) = (0, 0);
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        if name.eq_ignore_ascii_case(b"content-length") {
            lengths += 1;
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            parse_length(value).ok_or_else(broken)?;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            codings += 1;
        }
    }
    if lengths + codings > 1 { Err(broken()) } else { Ok(status.unwrap_or(0)) }
}

impl<S: AsyncRead + Unpin> Answers<S> {
    /// Reads the beginning of a head to where it is wanted, and leaves it there if it is whole. False
    /// when it is held instead.
    fn poll_straight(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, out))?;
        let new = out.filled().get(before..).unwrap_or_default();
        // The end of the stream in place of a head: the library says what that means.
        let passes = new.is_empty() || is_final(new)?;
        if passes {
            self.pass();
        } else {
            self.held.extend_from_slice(new);
            out.set_filled(before);
        }
        Poll::Ready(Ok(passes))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Answers<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.released > 0 {
                this.hand_on(out);
                return Poll::Ready(Ok(()));
            }
            if !this.gate.is_closed() && this.held.is_empty() {
                return Pin::new(&mut this.inner).poll_read(cx, out);
            }
            if this.held.is_empty() && out.remaining() >= STEP {
                if ready!(this.poll_straight(cx, out))? {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            if !this.held.is_empty() && this.advance()? {
                continue;
            }
            let mut space = [MaybeUninit::uninit(); STEP];
            let mut space = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut space))?;
            this.held.extend_from_slice(space.filled());
            if space.filled().is_empty() {
                // The end of the stream inside a head: the library says what that means.
                this.gate.open();
                this.released = this.held.len();
                if this.released == 0 {
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Answers<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[test]
    fn a_head_has_one_framing_or_none() {
        let head = |fields: &str| check(format!("HTTP/1.1 200 OK\r\n{fields}\r\n").as_bytes());
        for fields in ["", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "x: y\n"] {
            assert_eq!(head(fields).unwrap(), 200, "{fields:?}");
        }
        for fields in [
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "content-length: 5\ncontent-length: 6\n",
            "Content-Length: +5\r\n",
        ] {
            assert!(head(fields).is_err(), "{fields:?}");
        }
    }

    /// Gives a byte each time it is read.
    struct Drop(Vec<u8>, usize);

    impl AsyncRead for Drop {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            out: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let at = self.1;
            out.put_slice(self.0.get(at..at + 1).unwrap_or_default());
            self.1 += 1;
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_large_head_that_comes_byte_by_byte_is_looked_at_once() {
        // Looking at all of it again for each byte takes minutes.
        let field = format!("x: {}\r\n", "y".repeat(1000));
        let answer = format!("HTTP/1.1 200 OK\r\n{}\r\nbody", field.repeat(250)).into_bytes();
        let mut answers = Answers::new(Drop(answer.clone(), 0));
        answers.gate().close();
        let mut read = Vec::new();
        answers.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, answer);
    }

    #[test]
    fn the_end_of_a_head_is_found_with_either_line_end() {
        for (text, end) in [
            ("HTTP/1.1 200 OK\r\n\r\nx", Some(19)),
            ("HTTP/1.1 200 OK\n\nx", Some(17)),
            ("HTTP/1.1 200 OK\r\nA: b\r\n", None),
        ] {
            assert_eq!(end_of_head(text.as_bytes(), 0), end, "{text:?}");
        }
    }
}
