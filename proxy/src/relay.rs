//! Copies bytes both ways between two streams until both directions have ended.
//!
//! An idle tunnel holds no buffer: reads go into one buffer of the thread, and only what a short
//! write leaves over is kept with the tunnel. The end of one direction is passed on as a half-close
//! and leaves the other open.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::audit::{ByteCounts, Outcome};
use crate::stream_body::Silence;

/// Size of the buffer of a thread. A socket buffer's worth: fewer system calls for bulk transfers.
const BUFFER: usize = 64 * 1024;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into_boxed_slice());
}

/// Relays until both directions have ended, one breaks, or nothing moves for `idle`. `early` is
/// what the client has sent already and goes to the upstream first.
pub async fn relay<C, U>(
    client: C,
    upstream: U,
    early: Bytes,
    counts: &ByteCounts,
    idle: Duration,
) -> Outcome
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    Relay {
        client,
        upstream,
        up: Direction::new(early, Arc::clone(&counts.up)),
        down: Direction::new(Bytes::new(), Arc::clone(&counts.down)),
        silence: Silence::new(idle),
    }
    .await
}

struct Relay<C, U> {
    client: C,
    upstream: U,
    up: Direction,
    down: Direction,
    silence: Silence,
}

impl<C, U> Future for Relay<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = &mut *self;
        let up = this.up.poll(cx, &mut this.client, &mut this.upstream);
        let down = this.down.poll(cx, &mut this.upstream, &mut this.client);
        match (up, down) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Outcome::Completed),
            (Poll::Ready(Err(Broken::Reader)), _) | (_, Poll::Ready(Err(Broken::Writer))) => {
                Poll::Ready(Outcome::Cancelled)
            }
            (Poll::Ready(Err(Broken::Writer)), _) | (_, Poll::Ready(Err(Broken::Reader))) => {
                Poll::Ready(Outcome::UpstreamBroke)
            }
            (Poll::Pending, _) | (_, Poll::Pending) => {
                let moved = this.up.count() + this.down.count();
                ready!(this.silence.poll(moved, cx));
                Poll::Ready(Outcome::Idle)
            }
        }
    }
}

/// Which end of a direction failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Reader,
    Writer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Moving,
    /// The reader has ended; the writer must be told.
    Closing,
    Closed,
}

struct Direction {
    state: State,
    left_over: Bytes,
    unflushed: bool,
    moved: Arc<AtomicU64>,
}

impl Direction {
    const fn new(left_over: Bytes, moved: Arc<AtomicU64>) -> Self {
        Self { state: State::Moving, left_over, unflushed: false, moved }
    }

    fn count(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            match self.state {
                State::Moving => match self.step(cx, reader, writer)? {
                    Poll::Ready(()) => {}
                    Poll::Pending => return self.flush(cx, writer),
                },
                State::Closing => {
                    // A peer that is gone needs no goodbye.
                    let _told: io::Result<()> = ready!(Pin::new(&mut *writer).poll_shutdown(cx));
                    self.state = State::Closed;
                }
                State::Closed => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Writes what is left over, or else reads once and writes that.
    fn step<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Result<Poll<()>, Broken>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        while !self.left_over.is_empty() {
            match self.write(cx, writer, &self.left_over.clone())? {
                Poll::Ready(n) => self.left_over.advance(n),
                Poll::Pending => return Ok(Poll::Pending),
            }
        }
        SHARED.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            match Pin::new(reader).poll_read(cx, &mut buffer) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Err(_)) => return Err(Broken::Reader),
                Poll::Ready(Ok(())) => {}
            }
            if buffer.filled().is_empty() {
                self.state = State::Closing;
                return Ok(Poll::Ready(()));
            }
            self.write_all(cx, writer, buffer.filled())
        })
    }

    fn write_all<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        mut content: &[u8],
    ) -> Result<Poll<()>, Broken> {
        while !content.is_empty() {
            match self.write(cx, writer, content)? {
                Poll::Ready(n) => content = content.get(n..).unwrap_or_default(),
                Poll::Pending => {
                    self.left_over = Bytes::copy_from_slice(content);
                    return Ok(Poll::Pending);
                }
            }
        }
        Ok(Poll::Ready(()))
    }

    fn write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        content: &[u8],
    ) -> Result<Poll<usize>, Broken> {
        match Pin::new(writer).poll_write(cx, content) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => Err(Broken::Writer),
            Poll::Ready(Ok(n)) => {
                self.unflushed = true;
                self.moved.fetch_add(n as u64, Ordering::Relaxed);
                Ok(Poll::Ready(n))
            }
        }
    }

    /// Sockets need no flush, but a stream inside HTTP/2 does.
    fn flush<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
    ) -> Poll<Result<(), Broken>> {
        if self.unflushed {
            match Pin::new(writer).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Writer)),
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
