//! One accepted or dialled connection, Unix or TCP, and who is at its other end.

use std::{
    fmt, io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

/// A byte stream over either kind of socket. Closing the write side is a real half-close.
#[derive(Debug)]
pub enum Stream {
    /// A Unix domain socket.
    Unix(UnixStream),
    /// A TCP connection with `TCP_NODELAY` set.
    Tcp(TcpStream),
}

impl Stream {
    /// Gives a Unix connection more room for what is sent: with the default, its ends wake each other
    /// for every few pages. TCP finds out by itself how much it needs.
    #[must_use]
    pub fn for_bulk(self) -> Self {
        use rustix::net::sockopt::set_socket_send_buffer_size;
        if let Self::Unix(stream) = &self
            && let Err(error) = set_socket_send_buffer_size(stream, SEND_BUFFER)
        {
            tracing::debug!(%error, "cannot enlarge the send buffer of a connection");
        }
        self
    }

    /// Wraps a TCP connection and turns Nagle's algorithm off: every message here is latency-bound.
    pub fn tcp(stream: TcpStream) -> Self {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        if let Err(error) = notice_silent_loss(&stream) {
            tracing::debug!(%error, "cannot set the keepalive of a connection");
        }
        Self::Tcp(stream)
    }

    /// Another descriptor of the same socket. The connection is open as long as either is.
    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
        .try_clone_to_owned()
    }
}

/// Has the kernel find out when the other machine has gone without a word (tcp(7)): otherwise such a
/// connection is open for ever.
fn notice_silent_loss(stream: &TcpStream) -> rustix::io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)
}

/// Silence after which the other end is asked whether it is there, how long it has for an answer,
/// and how often it is asked: a minute in all.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// What is asked for as a send buffer; the kernel gives what `net.core.wmem_max` allows (socket(7)).
const SEND_BUFFER: usize = 1024 * 1024;

/// How long to wait before asking a full queue for a place again.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(5);

/// Connects to a Unix socket, waiting while its queue is full.
///
/// A blocking connect(2) waits for a place; one that does not block fails with EAGAIN, and there is
/// no event to wait for (unix(7)). How long to wait is the caller's: drop the future.
///
/// # Errors
/// As connect(2).
pub async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(QUEUE_FULL_PAUSE).await;
            }
            connected => return connected,
        }
    }
}

/// Who connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A process on this machine, as the kernel vouches for it (`SO_PEERCRED`, unix(7)).
    Unix {
        /// Effective user id at the time of connect.
        uid: Option<u32>,
        /// Process id as seen from here; absent where the kernel does not tell.
        pid: Option<i32>,
    },
    /// A TCP address.
    Tcp(SocketAddr),
}

impl Peer {
    pub(crate) fn of_unix(stream: &UnixStream) -> Self {
        let credentials = stream.peer_cred().ok();
        Self::Unix {
            uid: credentials.as_ref().map(tokio::net::unix::UCred::uid),
            pid: credentials.and_then(|c| c.pid()),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { uid: Some(uid), .. } => write!(f, "unix:uid={uid}"),
            Self::Unix { uid: None, .. } => f.write_str("unix"),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
    };

    use super::*;

    #[tokio::test]
    async fn a_full_queue_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .unwrap();
        bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&socket, 0).unwrap();
        let mut waiting = Vec::new();
        let full = loop {
            match UnixStream::connect(&path).await {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let listener = std::os::unix::net::UnixListener::from(socket);
        let make_room = async {
            // The other future has met the full queue by the time this one runs.
            tokio::task::yield_now().await;
            listener.accept().unwrap()
        };
        let (connected, _) = tokio::join!(connect_unix(&path), make_room);
        connected.unwrap();
    }
}
