//! Whether the client of a connection is still there, for answers that nobody else could use.
//!
//! The HTTP library finds the end of a connection by reading it, and it stops reading while it holds
//! what is not wanted yet: a second request behind the first, or a body that its handler does not
//! take. The kernel tells of the end past everything that is unread (`EPOLLRDHUP`, epoll_ctl(2)).

use std::{
    future::{Future, pending},
    io,
    os::fd::OwnedFd,
    sync::Arc,
};

use http::Extensions;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch,
};

use crate::stream::Stream;

/// By this a handler says that its work is for a client that is there.
#[derive(Debug, Clone, Default)]
pub struct Presence(Arc<watch::Sender<usize>>);

/// As long as one of these is held, the connection is dropped when its client has gone, and with it
/// everything that its handlers hold. A client that closes its side counts as gone.
#[derive(Debug)]
pub struct Required(Presence);

impl Presence {
    /// That of the client of a request. Where nobody looks, it can be required without effect.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_default()
    }

    /// Has the client's going end the connection until the answer is dropped.
    #[must_use]
    pub fn require(&self) -> Required {
        self.0.send_modify(|required| *required += 1);
        Required(self.clone())
    }

    /// That of the client at the other end of `stream`, and a future that resolves when it is required
    /// and not there.
    pub(crate) fn watch(stream: &Stream) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let presence = Self::default();
        let (socket, watched) = (stream.duplicate(), presence.clone());
        (presence, async move { watched.missed(socket).await })
    }

    /// Nothing is watched before the first time that it is required: most connections never need it.
    async fn missed(self, socket: io::Result<OwnedFd>) {
        self.is_required().await;
        let closed = async { closed(socket?).await };
        if let Err(error) = closed.await {
            tracing::debug!(%error, "cannot watch whether the client of a connection is there");
            pending::<()>().await;
        }
        self.is_required().await;
    }

    async fn is_required(&self) {
        // The sender is this value's own, so it cannot be gone.
        if self.0.subscribe().wait_for(|required| *required > 0).await.is_err() {
            pending::<()>().await;
        }
    }
}

impl Drop for Required {
    fn drop(&mut self) {
        let Self(Presence(required)) = self;
        required.send_modify(|required| *required -= 1);
    }
}

/// Resolves when the other end of `socket` sends no more. What it has sent stays unread, and each
/// arrival is looked at once.
async fn closed(socket: OwnedFd) -> io::Result<()> {
    // The wish to read is what makes the kernel tell of the end.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for types whose descriptor may change; this one's does not"
    )]
    let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
    loop {
        let mut event = socket.readable().await?;
        if event.ready().is_read_closed() {
            return Ok(());
        }
        event.clear_ready();
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream, UnixStream},
    };

    use super::*;

    async fn pairs() -> [(Stream, Stream); 2] {
        let (near, far) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (accepted, connected) = tokio::join!(listener.accept(), connecting);
        let tcp = (Stream::tcp(accepted.unwrap().0), Stream::tcp(connected.unwrap()));
        [(Stream::Unix(near), Stream::Unix(far)), tcp]
    }

    async fn is_ready(future: &mut (impl Future<Output = ()> + Unpin)) -> bool {
        // Events come by the runtime, which this lets look for them.
        tokio::task::yield_now().await;
        tokio::select! {
            biased;
            () = future => true,
            () = tokio::task::yield_now() => false,
        }
    }

    #[tokio::test]
    async fn the_end_is_found_past_what_is_unread() {
        for (mut near, mut far) in pairs().await {
            let (presence, missed) = Presence::watch(&near);
            let _required = presence.require();
            let mut missed = std::pin::pin!(missed);
            for _ in 0..3 {
                far.write_all(b"unread").await.unwrap();
                assert!(!is_ready(&mut missed).await, "it is there");
            }
            assert_eq!(near.read_u8().await.unwrap(), b'u');
            drop(far);
            missed.await;
        }
    }

    #[tokio::test]
    async fn whoever_is_not_required_is_not_missed() {
        for (near, far) in pairs().await {
            let (presence, missed) = Presence::watch(&near);
            let mut missed = std::pin::pin!(missed);
            let required = presence.require();
            assert!(!is_ready(&mut missed).await, "it is there");
            drop((required, far));
            assert!(!is_ready(&mut missed).await, "nobody needs it any more");
            let _again = presence.require();
            missed.await;
        }
    }
}
