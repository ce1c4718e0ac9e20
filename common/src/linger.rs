//! The end of a connection whose client may still be sending.
//!
//! Closing a socket with unread bytes resets it, and the reset can overtake the answer: a client in
//! the middle of an upload would see a broken pipe instead of the refusal that tells it why. So our
//! side is closed first, and what still comes is dropped for a while (RFC 9112 section 9.6).

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version, header::CONNECTION};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// How long what still comes is dropped, at most. A client reads its answer long before.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes that are dropped at a time.
const STEP: usize = 4096;

/// What the end of a connection depends on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    /// Something was read that belongs to no request that was read whole.
    unread: AtomicBool,
    /// We are about to close, whatever the client thinks.
    closing: AtomicBool,
    /// It is no connection of HTTP/1.1, or not any longer.
    foreign: AtomicBool,
}

impl Standing {
    /// Takes note of a request, and of when its body is read whole.
    pub(crate) fn request(&self, request: Request<Incoming>) -> Request<Received> {
        if request.version() == Version::HTTP_2 {
            self.0.foreign.store(true, Relaxed);
        }
        self.0.unread.store(!request.body().is_end_stream(), Relaxed);
        request.map(|body| Received { body, standing: self.clone() })
    }

    /// Takes note of the answer to a request with this method.
    pub(crate) fn answer<B>(&self, method: &Method, response: &Response<B>) {
        let status = response.status();
        let opens = *method == Method::CONNECT && status.is_success();
        if opens || status == StatusCode::SWITCHING_PROTOCOLS {
            self.0.foreign.store(true, Relaxed);
        }
        if response.headers().get(CONNECTION).is_some_and(|value| value == "close") {
            self.0.closing.store(true, Relaxed);
        }
    }

    fn may_be_sending(&self) -> bool {
        let Flags { unread, closing, foreign } = &*self.0;
        (unread.load(Relaxed) || closing.load(Relaxed)) && !foreign.load(Relaxed)
    }
}

/// The body of a request, as a server gets it.
#[derive(Debug)]
pub struct Received {
    body: Incoming,
    standing: Standing,
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Self { body, standing } = self.get_mut();
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        if frame.is_none() || body.is_end_stream() {
            standing.0.unread.store(false, Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that closes its own side first where its client may be sending.
#[derive(Debug)]
pub struct Lingering<S> {
    inner: S,
    standing: Standing,
    /// Runs once our side is closed.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Lingering<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, standing: Standing::default(), timer: None }
    }

    pub(crate) fn standing(&self) -> Standing {
        self.standing.clone()
    }

    /// The stream beneath.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: AsyncRead + Unpin> Lingering<S> {
    /// Drops what comes, until the client closes its side or has had time enough.
    fn poll_drop(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            let mut space = [MaybeUninit::uninit(); STEP];
            let mut space = ReadBuf::uninit(&mut space);
            let read = ready!(Pin::new(&mut self.inner).poll_read(cx, &mut space));
            if read.is_err() || space.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, out))?;
        if out.filled().len() > before {
            this.standing.0.unread.store(true, Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
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
        if this.timer.is_none() {
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
            if !this.standing.may_be_sending() {
                return Poll::Ready(Ok(()));
            }
        }
        this.poll_drop(cx).map(Ok)
    }
}

#[cfg(test)]
mod tests;
