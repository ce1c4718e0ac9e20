//! One exchange with a server on loopback, over a connection of its own.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};
use workspace_common::linger::Received;
use workspace_common::{drain::Drain, stream::Stream};

/// How long the server may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take from then to the head of its answer, an upload included. What follows may
/// take as long as it likes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// Largest head of an answer.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    /// Nobody listens on loopback.
    #[error("nobody accepts connections on 127.0.0.1 or ::1: {0}; has the server started?")]
    Connect(#[source] io::Error),
    /// What answered speaks no HTTP, or hung up.
    #[error("no proper HTTP answer: {0}")]
    Exchange(#[from] hyper::Error),
    /// A change of protocol that nobody wanted.
    #[error("it changed the protocol without being asked")]
    Unasked,
    /// Nothing came.
    #[error("no answer within {}s", ANSWER_TIMEOUT.as_secs())]
    Silent,
}

/// Sends `request` to the port and gives the head of the answer.
///
/// # Errors
/// When nobody listens, or what comes is no answer.
pub(super) async fn exchange(
    port: NonZeroU16,
    request: Request<Received>,
    drain: &Drain,
) -> Result<Response<Incoming>, UpstreamError> {
    let stream = connect(port).await.map_err(UpstreamError::Connect)?;
    let exchange = async {
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .handshake(TokioIo::new(Stream::tcp(stream)))
            .await?;
        // It ends with the answer's body, or when that or this future is lost.
        drain.spawn_uncounted(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to a port ended with an error");
            }
        });
        Ok(sender.send_request(request).await?)
    };
    timeout(ANSWER_TIMEOUT, exchange).await.unwrap_or(Err(UpstreamError::Silent))
}

/// Servers for developers listen on `localhost`, which is either address, or both.
async fn connect(port: NonZeroU16) -> io::Result<TcpStream> {
    let addresses: [SocketAddr; 2] =
        [(Ipv4Addr::LOCALHOST, port.get()).into(), (Ipv6Addr::LOCALHOST, port.get()).into()];
    timeout(CONNECT_TIMEOUT, TcpStream::connect(&addresses[..])).await?
}
