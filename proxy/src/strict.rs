//! A connection of a workspace, with every request head checked before the HTTP library reads it.
//!
//! The library repairs what it can: it drops one of two lengths, takes a bare LF for a line end, cuts
//! a fragment off. What it repairs, another reader could read differently, so such a head is refused
//! here, from its raw bytes. In its place the library gets a mark, by which the service knows to
//! answer with the refusal; after it nothing more is read.
//!
//! Heads are held back until they are whole. Those that come whole, and bodies, pass without a copy, and
//! after a CONNECT or the wish for a WebSocket nothing is looked at any more; a wish that is not granted
//! ends the connection ([`crate::service`]), so that nothing unchecked is ever read as a request.

pub mod answers;
pub mod chunks;
pub mod head;

use std::future::Future as _;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http::Method;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use workspace_common::serve::HeadLimits;

use crate::refusal::Refusal;
use crate::strict::chunks::{Chunks, Progress};
use crate::strict::head::Follows;

/// What the library reads in place of a refused head. No client can send this method over HTTP/1.1.
const MARK: &[u8] = b"! / HTTP/1.1\r\nhost: refused\r\n\r\n";
/// How HTTP/2 begins, which has a framing of its own.
const HTTP_2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes that are asked for at a time while a head is read.
const STEP: usize = 4096;
/// Bytes of a refused request that are read and dropped, so that its answer is not lost to a reset.
const MAX_DROPPED: usize = 64 * 1024;

/// Why a head of this connection was refused, once one was.
#[derive(Clone, Debug, Default)]
pub struct Verdict(Arc<OnceLock<Refused>>);

#[derive(Debug)]
struct Refused {
    refusal: Refusal,
    method: String,
}

impl Verdict {
    /// The refusal and the method as it was sent, for the request that stands for a refused head.
    #[must_use]
    pub fn of(&self, method: &Method) -> Option<(Refusal, &str)> {
        let refused = self.0.get().filter(|_| method.as_str() == "!")?;
        Some((refused.refusal, &refused.method))
    }
}

/// A stream whose request heads are checked.
#[derive(Debug)]
pub struct Strict<S> {
    inner: S,
    state: State,
    /// Read and not yet handed on.
    held: BytesMut,
    /// Bytes at the front of `held` that may be handed on.
    released: usize,
    /// Bytes of `held` in which the end of a head has been looked for.
    searched: usize,
    verdict: Verdict,
    limits: HeadLimits,
    /// Runs while a head has begun and not ended, and from the start of the connection.
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum State {
    First,
    Head,
    Sized(u64),
    Chunked(Chunks),
    Opaque,
    /// Refused: that many bytes more are dropped.
    Refused(usize),
    /// The framing of a body is broken: as good as the end of the stream.
    Ended,
}

/// What came of reading a head.
enum Filled {
    /// More of it is held.
    Held,
    /// It is whole, in order, and where it was wanted.
    Handed,
    /// The end of the stream, or of the time for the first byte.
    Nothing,
}

impl<S> Strict<S> {
    /// Wraps a fresh connection.
    #[must_use]
    pub fn new(inner: S, limits: HeadLimits) -> Self {
        Self {
            inner,
            state: State::First,
            held: BytesMut::new(),
            released: 0,
            searched: 0,
            verdict: Verdict::default(),
            limits,
            timer: None,
        }
    }

    /// Wraps a connection of which some bytes have been read already.
    #[must_use]
    pub fn resuming(inner: S, early: Bytes, limits: HeadLimits) -> Self {
        Self { held: BytesMut::from(early), ..Self::new(inner, limits) }
    }

    /// What is said about a head that was refused.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict.clone()
    }

    /// The stream, and what was read from it and not handed on.
    #[must_use]
    pub fn into_parts(self) -> (S, Bytes) {
        (self.inner, self.held.freeze())
    }

    /// Looks at what is held, and releases what may be handed on. False when more is needed.
    fn advance(&mut self) -> bool {
        match &mut self.state {
            State::First if self.held.starts_with(HTTP_2) => self.state = State::Opaque,
            State::First if self.held.is_empty() || HTTP_2.starts_with(&self.held) => return false,
            State::First => self.state = State::Head,
            State::Head => return self.head(),
            State::Opaque => self.released = self.held.len(),
            State::Sized(_) | State::Chunked(_) => {
                let (used, next) = self.state.body(&self.held);
                self.released = used;
                self.state = next;
            }
            State::Refused(_) | State::Ended => self.held.clear(),
        }
        true
    }

    fn head(&mut self) -> bool {
        // An empty line before a request is to be ignored (RFC 9112 section 2.2).
        while self.held.starts_with(b"\r\n") {
            self.held.advance(2);
            self.searched = 0;
        }
        let found = head::find_end(&self.held, self.searched, self.limits.size);
        self.searched = self.held.len();
        let checked = match found {
            Ok(None) => return false,
            Ok(Some(end)) => {
                head::check(self.held.get(..end).unwrap_or_default()).map(|next| (end, next))
            }
            Err(refusal) => Err(refusal),
        };
        match checked {
            Ok((end, follows)) => {
                self.released = end;
                self.state = State::after(follows);
            }
            Err(refusal) => self.refuse(refusal),
        }
        self.searched = 0;
        self.timer = None;
        true
    }

    fn refuse(&mut self, refusal: Refusal) {
        let method = self.held.iter().take_while(|byte| byte.is_ascii_alphabetic());
        let method = method.take(32).map(|byte| char::from(*byte)).collect();
        // The first refusal of a connection is its last.
        let _first = self.verdict.0.set(Refused { refusal, method });
        self.state = State::Refused(MAX_DROPPED);
        self.held = BytesMut::from(MARK);
        self.released = MARK.len();
    }
}

impl State {
    const fn after(follows: Follows) -> Self {
        match follows {
            Follows::Sized(0) => Self::Head,
            Follows::Sized(length) => Self::Sized(length),
            Follows::Chunked => Self::Chunked(Chunks::new()),
            Follows::Opaque => Self::Opaque,
        }
    }

    /// How many of the bytes belong to the body, and where the connection stands after them.
    fn body(&self, bytes: &[u8]) -> (usize, Self) {
        match self {
            Self::Sized(left) => {
                let used = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                (used, Self::after(Follows::Sized(left - used as u64)))
            }
            Self::Chunked(chunks) => {
                let mut chunks = *chunks;
                match chunks.read(bytes) {
                    Progress::More => (bytes.len(), Self::Chunked(chunks)),
                    Progress::Ended(used) => (used, Self::Head),
                    Progress::Broken(used) => (used, Self::Ended),
                }
            }
            Self::First | Self::Head | Self::Opaque | Self::Refused(_) | Self::Ended => {
                (bytes.len(), Self::Ended)
            }
        }
    }
}

impl<S: AsyncRead + Unpin> Strict<S> {
    /// Hands released bytes on.
    fn hand_on(&mut self, out: &mut ReadBuf<'_>) {
        let part = self.held.split_to(self.released.min(out.remaining()));
        self.released -= part.len();
        out.put_slice(&part);
        if self.held.is_empty() {
            // An idle connection, or a tunnel, holds no buffer.
            self.held = BytesMut::new();
        }
    }

    /// Reads more of a head, or refuses one that takes too long.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Filled>> {
        let begins = self.held.is_empty() && matches!(self.state, State::Head);
        if begins && out.remaining() >= STEP {
            return self.poll_straight(cx, out);
        }
        let mut space = [MaybeUninit::uninit(); STEP];
        let mut space = ReadBuf::uninit(&mut space);
        if Pin::new(&mut self.inner).poll_read(cx, &mut space)?.is_pending() {
            ready!(self.poll_overdue(cx));
            if self.held.is_empty() {
                return Poll::Ready(Ok(Filled::Nothing));
            }
            self.refuse(Refusal::HeaderTimeout);
            return Poll::Ready(Ok(Filled::Held));
        }
        Poll::Ready(Ok(self.hold(space.filled())))
    }

    /// Reads the beginning of a head to where it is wanted. Most come whole and alone, and stay there.
    fn poll_straight(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Filled>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, out))?;
        let new = out.filled().get(before..).unwrap_or_default();
        let whole = head::find_end(new, 0, self.limits.size) == Ok(Some(new.len()));
        if whole && let Ok(follows) = head::check(new) {
            self.state = State::after(follows);
            return Poll::Ready(Ok(Filled::Handed));
        }
        let filled = self.hold(new);
        out.set_filled(before);
        Poll::Ready(Ok(filled))
    }

    fn hold(&mut self, new: &[u8]) -> Filled {
        self.held.extend_from_slice(new);
        if new.is_empty() { Filled::Nothing } else { Filled::Held }
    }

    /// Ready when a head began long ago and has not ended, or the first one does not begin. Between
    /// two heads the client may be waiting for an answer.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if matches!(self.state, State::Head) && self.held.is_empty() {
            return Poll::Pending;
        }
        let patience = self.limits.timeout;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        timer.as_mut().poll(cx)
    }

    /// Reads a part of a body to where it is wanted. What follows the body is held back.
    fn poll_body(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, out))?;
        let new = out.filled().get(before..).unwrap_or_default();
        let (used, next) = self.state.body(new);
        self.held.extend_from_slice(new.get(used..).unwrap_or_default());
        self.state = next;
        out.set_filled(before + used);
        Poll::Ready(Ok(()))
    }

    /// Drops what still comes of a refused request; never ready, so that the answer ends it.
    fn poll_drop(&mut self, cx: &mut Context<'_>, mut left: usize) -> Poll<io::Result<()>> {
        let mut space = [MaybeUninit::uninit(); STEP];
        while left > 0 {
            let mut space = ReadBuf::uninit(&mut space);
            let read = ready!(Pin::new(&mut self.inner).poll_read(cx, &mut space));
            left = match read {
                Ok(()) if !space.filled().is_empty() => left.saturating_sub(space.filled().len()),
                Ok(()) | Err(_) => 0,
            };
            self.state = State::Refused(left);
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if this.released > 0 {
                this.hand_on(out);
                return Poll::Ready(Ok(()));
            }
            if !this.held.is_empty() && this.advance() {
                continue;
            }
            match this.state {
                State::Opaque => return Pin::new(&mut this.inner).poll_read(cx, out),
                State::Sized(_) | State::Chunked(_) => return this.poll_body(cx, out),
                State::Refused(left) => return this.poll_drop(cx, left),
                State::Ended => return Poll::Ready(Ok(())),
                State::First | State::Head => match ready!(this.poll_fill(cx, out))? {
                    Filled::Held => {}
                    Filled::Handed => return Poll::Ready(Ok(())),
                    // A head that was not finished is nobody's request.
                    Filled::Nothing => this.state = State::Ended,
                },
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
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
        let this = self.get_mut();
        // What still comes will be dropped unread, so nobody is to wait for a head in it.
        this.state = State::Opaque;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}
