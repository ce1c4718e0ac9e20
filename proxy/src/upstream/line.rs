//! An HTTP/1.1 connection to an origin, driven by the task of the request that uses it.
//!
//! The library wants a connection to be a task of its own. Every answer then crosses from one task to
//! another, and often from one processor to another, which costs more than all that is done with it.
//! Here whoever waits for an answer, or for a part of its body, moves the connection along.
//!
//! One thing needs a task of its own: an upload that goes on behind its answer. The client may read
//! nothing of the answer before it has sent everything, so nobody would be there to move it.

mod together;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use workspace_common::body::{Body, BoxError};
use workspace_common::drain::Drain;

use crate::stream_body::Silence;
use crate::strict::answers::{Answers, Gate};
use crate::upstream::line::together::Together;

/// Largest response head that is accepted.
const MAX_RESPONSE_HEAD: usize = 256 * 1024;

type Connection = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// A connection that takes one request after the other.
pub struct Line {
    sender: SendRequest<Outgoing>,
    /// To be closed before each request.
    gate: Gate,
    /// None once it has ended or become a task of its own.
    connection: Option<Connection>,
    together: Together,
    uploading: Arc<AtomicBool>,
    silence: Silence,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("detached", &self.connection.is_none()).finish_non_exhaustive()
    }
}

/// What came of a request: the head of its answer, or the error, with the request where not a byte of
/// it was sent. Nothing when the origin was silent for too long.
pub type Asked = Option<Result<Response<Incoming>, TrySendError<Request<Outgoing>>>>;

impl Line {
    /// Makes a stream one.
    ///
    /// # Errors
    /// When the library does not take it.
    pub async fn open<I>(stream: I) -> hyper::Result<Self>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = Answers::new(stream);
        let gate = stream.gate();
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_RESPONSE_HEAD);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        Ok(Self {
            sender,
            gate,
            connection: Some(Box::pin(connection.with_upgrades())),
            together: Together::new(),
            uploading: Arc::default(),
            silence: Silence::new(Duration::MAX),
        })
    }

    /// Sends a request and waits for the head of its answer for as long as something moves: what `up`
    /// counts does, too.
    pub async fn ask(&mut self, request: Request<Body>, up: &AtomicU64, idle: Duration) -> Asked {
        self.gate.close();
        self.silence.restart(idle);
        let request = request.map(|body| Outgoing::new(body, &self.uploading));
        let mut answer = pin!(self.sender.try_send_request(request));
        poll_fn(|cx| {
            if let Poll::Ready(answer) = self.poll_beside(cx, |cx| answer.as_mut().poll(cx)) {
                return Poll::Ready(Some(answer));
            }
            ready!(self.silence.poll(up.load(Ordering::Relaxed), cx));
            Poll::Ready(None)
        })
        .await
    }

    /// The next part of the body of the answer.
    pub fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Incoming,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        self.poll_beside(cx, |cx| Pin::new(&mut *body).poll_frame(cx))
    }

    /// Ready when nothing has moved for as long as the last request allows: `moved` is the number of
    /// bytes so far.
    pub fn poll_silence(&mut self, cx: &mut Context<'_>, moved: u64) -> Poll<()> {
        self.silence.poll(moved, cx)
    }

    /// Asks for something that the connection brings, and moves the connection until it is there or
    /// both have to wait.
    fn poll_beside<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut wanted: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let Self { together, connection, .. } = self;
        together.poll(cx, |cx| {
            let outcome = wanted(cx);
            if outcome.is_pending() {
                advance(connection, cx);
            }
            outcome
        })
    }

    /// Whether the body of the last request has not ended.
    #[must_use]
    pub fn is_uploading(&self) -> bool {
        self.uploading.load(Ordering::Acquire)
    }

    /// Lets the connection move by itself, until it ends or the process cuts what is left.
    pub fn detach(&mut self, drain: &Drain) {
        let Some(connection) = self.connection.take() else { return };
        let until = drain.clone();
        drain.spawn(async move {
            // Cut: the connection is dropped, which closes it under whoever still reads.
            tokio::select! {
                ended = connection => note_end(ended),
                () = until.cut() => {}
            }
        });
    }

    /// Takes note of what has happened to it meanwhile, and says whether it takes a request now.
    pub fn is_ready(&mut self) -> bool {
        advance(&mut self.connection, &mut Context::from_waker(Waker::noop()));
        matches!(self.sender.ready().now_or_never(), Some(Ok(())))
    }
}

/// Moves the connection for as far as it goes. Whoever waits for something hears of its end there.
fn advance(connection: &mut Option<Connection>, cx: &mut Context<'_>) {
    let running = connection.as_mut().map(|running| running.as_mut().poll(cx));
    if let Some(Poll::Ready(ended)) = running {
        *connection = None;
        note_end(ended);
    }
}

fn note_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "upstream connection ended with an error");
    }
}

/// A request body on its way, which leaves word when the library is done with it.
pub struct Outgoing {
    body: Body,
    uploading: Arc<AtomicBool>,
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outgoing")
    }
}

impl Outgoing {
    fn new(body: Body, uploading: &Arc<AtomicBool>) -> Self {
        uploading.store(true, Ordering::Release);
        Self { body, uploading: Arc::clone(uploading) }
    }

    /// The body, of which nothing was sent.
    #[must_use]
    pub fn take_back(mut self) -> Body {
        std::mem::take(&mut self.body)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.uploading.store(false, Ordering::Release);
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
