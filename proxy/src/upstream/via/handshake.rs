//! Asking an upstream proxy for a tunnel, over a connection that stands.

use std::fmt::Write as _;
use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use workspace_common::secret::Secret;

use crate::host::HostPort;
use crate::refusal::Refusal;
use crate::upstream::channel::Channel;
use crate::upstream::via::answer;

/// Bytes that are looked at in one step.
const STEP: usize = 1024;

/// Asks for a tunnel to `to`. Afterwards the stream is the destination: not a byte behind the head of
/// the answer has been taken from it.
///
/// # Errors
/// What the upstream proxy said, or how it failed.
pub async fn ask(
    stream: &mut Channel,
    to: &HostPort,
    authorization: Option<&Secret<String>>,
) -> Result<(), Refusal> {
    let request = request(to, authorization);
    stream.write_all(request.expose().as_bytes()).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let head = read_head(stream).await?;
    let verdict = answer::judge(&head);
    if let Err(refusal) = verdict {
        // The status line alone, and of that the number: the words are the proxy's.
        let status = head.get(9..12).map(String::from_utf8_lossy);
        tracing::info!(destination = %to, ?status, code = refusal.code(), "no tunnel through the upstream proxy");
    }
    verdict
}

fn request(to: &HostPort, authorization: Option<&Secret<String>>) -> Secret<String> {
    let mut text = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
    if let Some(value) = authorization {
        // Writing to a String cannot fail.
        let _written = write!(text, "Proxy-Authorization: {}\r\n", value.expose());
    }
    text.push_str("\r\n");
    Secret::new(text)
}

async fn read_head(stream: &mut Channel) -> Result<Vec<u8>, Refusal> {
    match stream {
        Channel::Plain(stream) => read_plain(stream).await,
        Channel::Secured(stream) => read_secured(stream).await,
    }
}

/// Byte by byte out of what is decrypted already.
async fn read_secured(stream: &mut TlsStream<TcpStream>) -> Result<Vec<u8>, Refusal> {
    let mut head = Vec::new();
    loop {
        let before = head.len();
        head.push(stream.read_u8().await.map_err(broken)?);
        if answer::find_end(&head, before)?.is_some() {
            return Ok(head);
        }
    }
}

/// Looks before it takes, so that what follows the head stays in the socket.
async fn read_plain(stream: &mut TcpStream) -> Result<Vec<u8>, Refusal> {
    let mut head = Vec::new();
    let mut step = [0; STEP];
    loop {
        let there = stream.peek(&mut step).await.map_err(broken)?;
        if there == 0 {
            return Err(Refusal::UpstreamProxyBadAnswer);
        }
        let before = head.len();
        head.extend_from_slice(step.get(..there).unwrap_or_default());
        let end = answer::find_end(&head, before)?;
        head.truncate(end.unwrap_or(head.len()));
        let taken = step.get_mut(..head.len() - before).unwrap_or_default();
        stream.read_exact(taken).await.map_err(broken)?;
        if end.is_some() {
            return Ok(head);
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err wants")]
fn broken(error: io::Error) -> Refusal {
    tracing::debug!(%error, "the upstream proxy broke off");
    Refusal::UpstreamProxyBadAnswer
}
