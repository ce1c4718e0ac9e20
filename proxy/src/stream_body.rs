//! Bodies on their way through: counted, without trailers, watched for silence, and tied to the
//! audit record, which ends when the body does.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};
use workspace_common::body::{Body, BoxError};
use workspace_common::linger::Received;

use crate::audit::{Audit, Outcome};
use crate::upstream::pool::{Lease, Pool};

/// Something outside that ends a response before its body does.
pub type Ending = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A request body: counts, keeps a limit, and drops trailers (they could carry what the head may
/// not).
#[must_use]
pub fn upload(
    body: Received,
    up: Arc<AtomicU64>,
    limit: Option<u64>,
    until: Option<Ending>,
) -> Body {
    Upload { body, up, left: limit.unwrap_or(u64::MAX), until }.boxed_unsync()
}

/// The request body went over its limit on the way.
#[derive(Debug, thiserror::Error)]
#[error("the request body is over the limit of its route")]
pub struct OverLimit;

struct Upload {
    body: Received,
    up: Arc<AtomicU64>,
    left: u64,
    /// Ends the request by itself: the end of the response is of no use while its reader is stuck.
    until: Option<Ending>,
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(until) = &mut self.until
            && let Poll::Ready(outcome) = until.as_mut().poll(cx)
        {
            self.until = None;
            self.left = 0;
            return Poll::Ready(Some(Err(Cut(outcome).into())));
        }
        loop {
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)?) else {
                return Poll::Ready(None);
            };
            if let Ok(data) = frame.into_data() {
                let Some(left) = self.left.checked_sub(data.len() as u64) else {
                    return Poll::Ready(Some(Err(OverLimit.into())));
                };
                self.left = left;
                self.up.fetch_add(data.len() as u64, Ordering::Relaxed);
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response body on its way to the client.
pub struct Download {
    body: Incoming,
    down: Arc<AtomicU64>,
    up: Arc<AtomicU64>,
    audit: Option<Audit>,
    /// The connection that brings it, until it is whole.
    lease: Option<Lease>,
    pool: Arc<Pool>,
    /// Told a turn after it is known: with it the library drops what it has not sent, and the client
    /// is to see all that came before.
    broken: Option<hyper::Error>,
    ending: Ending,
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Download")
    }
}

/// Why a body was cut. hyper closes the client's connection, so that the client sees a
/// truncated body and not a complete one.
#[derive(Debug, thiserror::Error)]
#[error("the body was cut: {0:?}")]
pub struct Cut(Outcome);

impl Download {
    /// Ties a response body to its audit record and its connection, which is kept in the pool when the
    /// body is whole.
    #[must_use]
    pub fn new(
        body: Incoming,
        audit: Audit,
        (lease, pool): (Lease, Arc<Pool>),
        ending: Ending,
    ) -> Self {
        let counts = audit.counts();
        let (down, up) = (counts.down, counts.up);
        let (audit, lease) = (Some(audit), Some(lease));
        let mut download = Self { body, down, up, audit, lease, pool, broken: None, ending };
        download.complete_if_ended();
        download
    }

    fn finish(&mut self, outcome: Outcome) {
        if let Some(audit) = self.audit.take() {
            audit.finish(outcome);
        }
    }

    /// A body of known length is never asked for its end, so every frame may be the last.
    fn complete_if_ended(&mut self) {
        if self.body.is_end_stream() {
            self.complete();
        }
    }

    fn complete(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.pool.keep(lease);
        }
        self.finish(Outcome::Completed);
    }

    /// The next part; the end where there is no connection any more that could bring one.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        match &mut self.lease {
            Some(lease) => lease.line.poll_body(cx, &mut self.body),
            None => Poll::Ready(None),
        }
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let moved = self.down.load(Ordering::Relaxed) + self.up.load(Ordering::Relaxed);
        self.lease.as_mut().map_or(Poll::Pending, |lease| lease.line.poll_silence(cx, moved))
    }

    fn cut(&mut self, outcome: Outcome) -> Option<Result<Frame<Bytes>, BoxError>> {
        self.finish(outcome);
        Some(Err(Cut(outcome).into()))
    }
}

impl HttpBody for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error.into())));
        }
        if self.audit.is_some()
            && let Poll::Ready(outcome) = self.ending.as_mut().poll(cx)
        {
            return Poll::Ready(self.cut(outcome));
        }
        loop {
            match self.poll_part(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    self.down.fetch_add(data.len() as u64, Ordering::Relaxed);
                    self.complete_if_ended();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Ready(Some(Err(error))) => {
                    self.finish(Outcome::UpstreamBroke);
                    self.broken = Some(error);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(None) => {
                    self.complete();
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    ready!(self.poll_silence(cx));
                    return Poll::Ready(self.cut(Outcome::Idle));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Ready when a count has not changed for a time. One timer, moved only when it fires.
pub(crate) struct Silence {
    timer: Pin<Box<Sleep>>,
    idle: Duration,
    seen: u64,
    since: Instant,
}

impl Silence {
    pub(crate) fn new(idle: Duration) -> Self {
        Self { timer: Box::pin(tokio::time::sleep(idle)), idle, seen: 0, since: Instant::now() }
    }

    /// Begins anew, for somebody else who may wait for another time.
    pub(crate) fn restart(&mut self, idle: Duration) {
        (self.idle, self.seen, self.since) = (idle, 0, Instant::now());
        let due = self.since + idle;
        if due < self.timer.deadline() {
            self.timer.as_mut().reset(due);
        }
    }

    /// `moved` is the number of bytes that have passed so far.
    pub(crate) fn poll(&mut self, moved: u64, cx: &mut Context<'_>) -> Poll<()> {
        if moved != self.seen {
            self.seen = moved;
            self.since = Instant::now();
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let due = self.since + self.idle;
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(due);
        }
    }
}
