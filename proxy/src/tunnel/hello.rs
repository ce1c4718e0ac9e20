//! The TLS client hello at the start of a tunnel: its server name must be the host that the tunnel
//! was permitted for, or the permission would be for one host and the conversation with another.
//!
//! The hello is read and passed on unchanged. Nothing is decrypted, nothing is answered.

use std::future::Future;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::host::{Host, HostPort};
use crate::refusal::Refusal;
use crate::tunnel::client_hello::{HANDSHAKE, HelloError, HelloReader};

/// Most bytes that a client hello may take with its records. One of a byte a record is an attack.
const MAX_HELLO: usize = 96 * 1024;
/// How long a client may take to send it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a tunnel must begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// A client hello for this host: the port is that of TLS.
    Tls(Host),
    /// Anything; but a client hello must not be for another host.
    NotForOthers(Host),
    /// Anything: the tunnel leads to an address, which has no name to compare with.
    Anything,
}

impl Greeting {
    /// What the destination of a tunnel asks for. Outside port 443 the server may speak first, and
    /// the client something else than TLS.
    #[must_use]
    pub fn of(at: &HostPort) -> Self {
        match (at.host.is_ip(), at.port) {
            (true, _) => Self::Anything,
            (false, TLS_PORT) => Self::Tls(at.host.clone()),
            (false, _) => Self::NotForOthers(at.host.clone()),
        }
    }

    /// Reads what the client says first, of which `early` has come already, as far as it must be
    /// judged. Returns everything read, to be sent on first; nothing when the client left without a
    /// word. `server_speaks` resolves when the origin has said something, which ends the wait.
    ///
    /// # Errors
    /// Why the tunnel must be closed.
    pub async fn read<C, S>(
        &self,
        client: &mut C,
        early: Bytes,
        server_speaks: S,
    ) -> Result<Option<Bytes>, Refusal>
    where
        C: AsyncRead + Unpin,
        S: Future,
    {
        match self {
            Self::Anything => Ok(Some(early)),
            Self::Tls(host) => {
                let Some((bytes, name)) = hello(client, early).await? else { return Ok(None) };
                judge(name.as_deref().ok_or(Refusal::SniMissing)?, host).map(|()| Some(bytes))
            }
            Self::NotForOthers(host) => {
                let first = first_bytes(client, early, server_speaks).await;
                if first.first() != Some(&HANDSHAKE) {
                    return Ok(Some(first));
                }
                let Some((bytes, name)) = hello(client, first).await? else { return Ok(None) };
                name.map_or(Ok(()), |name| judge(&name, host)).map(|()| Some(bytes))
            }
        }
    }
}

/// Where tunnels must carry TLS.
const TLS_PORT: u16 = 443;

/// The first bytes of a client, or none if the server spoke first or the client has ended.
async fn first_bytes<C, S>(client: &mut C, early: Bytes, server_speaks: S) -> Bytes
where
    C: AsyncRead + Unpin,
    S: Future,
{
    if !early.is_empty() {
        return early;
    }
    let mut first = BytesMut::new();
    // Reading is cancel-safe: what is lost when the server speaks is only the wait.
    tokio::select! {
        biased;
        _read = client.read_buf(&mut first) => first.freeze(),
        _spoken = server_speaks => Bytes::new(),
    }
}

fn judge(name: &str, host: &Host) -> Result<(), Refusal> {
    match Host::parse(name) {
        Ok(named) if named == *host => Ok(()),
        Ok(_) | Err(_) => Err(Refusal::SniMismatch),
    }
}

/// What was read, and the server name in it.
type Hello = (Bytes, Option<String>);

/// Reads a hello, of which `early` has come already; nothing when the client left without a byte.
async fn hello<C>(client: &mut C, early: Bytes) -> Result<Option<Hello>, Refusal>
where
    C: AsyncRead + Unpin,
{
    // Boxed, so that the reader's state does not stay with the tunnel for its whole life.
    let reading = tokio::time::timeout(PATIENCE, Box::pin(read(client, early)));
    reading.await.unwrap_or(Err(Refusal::HelloTimeout))
}

async fn read<C>(client: &mut C, early: Bytes) -> Result<Option<Hello>, Refusal>
where
    C: AsyncRead + Unpin,
{
    let mut reader = HelloReader::default();
    let mut bytes = BytesMut::from(early);
    loop {
        if let Some(hello) = reader.read(&bytes)? {
            return Ok(Some((bytes.freeze(), hello.server_name)));
        }
        if bytes.len() >= MAX_HELLO {
            return Err(Refusal::BadHello);
        }
        match client.read_buf(&mut bytes).await {
            Ok(0) | Err(_) if bytes.is_empty() => return Ok(None),
            Ok(0) | Err(_) => return Err(Refusal::BadHello),
            Ok(_) => {}
        }
    }
}

impl From<HelloError> for Refusal {
    fn from(error: HelloError) -> Self {
        match error {
            HelloError::NotTls => Self::NotTls,
            HelloError::Malformed => Self::BadHello,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::ClientConnection;
    use rustls_pki_types::ServerName;
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::upstream::tls::client_config;

    fn hello_for(name: &'static str) -> Vec<u8> {
        let config = Arc::new(client_config(None).unwrap());
        let name = ServerName::try_from(name).unwrap();
        let mut connection = ClientConnection::new(config, name).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same handshake message in records of `size` bytes.
    fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
        let (header, message) = hello.split_at(5);
        let record = |part: &[u8]| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&header[..3], &length, part].concat()
        };
        message.chunks(size).flat_map(record).collect()
    }

    async fn outcome(early: &[u8], later: &[u8]) -> Result<Option<usize>, Refusal> {
        outcome_at("allowed.example:443", early, later).await
    }

    async fn outcome_at(at: &str, early: &[u8], later: &[u8]) -> Result<Option<usize>, Refusal> {
        let (mut client, mut inner) = tokio::io::duplex(7);
        let later = later.to_vec();
        let send = async move {
            // The reader may have seen enough.
            let _sent = client.write_all(&later).await;
            drop(client);
        };
        let greeting = Greeting::of(&HostPort::parse_authority(at, None).unwrap());
        let early = Bytes::copy_from_slice(early);
        let read = async move {
            let silent = std::future::pending::<()>();
            let result = greeting.read(&mut inner, early, silent).await;
            drop(inner);
            result
        };
        let (result, ()) = tokio::join!(read, send);
        result.map(|bytes| bytes.map(|bytes| bytes.len()))
    }

    #[tokio::test]
    async fn the_permitted_name_passes_however_it_is_cut() {
        let hello = hello_for("ALLOWED.example");
        let all = Ok(Some(hello.len()));
        assert_eq!(outcome(&hello, b"").await, all);
        assert_eq!(outcome(b"", &hello).await, all);
        let (head, tail) = hello.split_at(3);
        assert_eq!(outcome(head, tail).await, all);
        let records = in_records(&hello, 40);
        assert_eq!(outcome(b"", &records).await, Ok(Some(records.len())));
        let more = [&hello[..], b"early data"].concat();
        assert_eq!(outcome(&more, b"").await, Ok(Some(more.len())));
    }

    #[tokio::test]
    async fn everything_else_is_refused() {
        let good = hello_for("allowed.example");
        let mut lying = good.clone();
        lying[6..9].copy_from_slice(&[0xff, 0xff, 0xff]);
        let cut = &good[..good.len() - 1];
        for (bytes, expected) in [
            (&hello_for("evil.test")[..], Refusal::SniMismatch),
            (&hello_for("files.allowed.example"), Refusal::SniMismatch),
            (&hello_for("192.0.2.1"), Refusal::SniMissing),
            (b"GET / HTTP/1.1\r\n\r\n", Refusal::NotTls),
            (b"SSH-2.0-x\r\n", Refusal::NotTls),
            (&[21, 3, 1, 0, 2, 2, 40], Refusal::NotTls),
            (&[22, 3, 1, 0, 4, 2, 0, 0, 0], Refusal::BadHello),
            (&lying, Refusal::BadHello),
            (cut, Refusal::BadHello),
        ] {
            assert_eq!(outcome(b"", bytes).await, Err(expected));
            assert_eq!(outcome(bytes, b"").await, Err(expected));
        }
        assert_eq!(outcome(b"", b"").await, Ok(None));
    }

    #[tokio::test]
    async fn an_endless_hello_is_refused() {
        let mut endless = Vec::new();
        while endless.len() <= MAX_HELLO {
            // Records of one zero byte of a message that claims 16 MiB.
            endless.extend_from_slice(&[22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff]);
        }
        assert_eq!(outcome(b"", &endless).await, Err(Refusal::BadHello));
    }

    #[tokio::test]
    async fn outside_the_tls_port_only_a_hello_for_another_host_is_refused() {
        let at = "allowed.example:8443";
        let good = hello_for("allowed.example");
        let nameless = hello_for("192.0.2.1");
        for (bytes, expected) in [
            (&good[..], Ok(Some(good.len()))),
            (&nameless, Ok(Some(nameless.len()))),
            (&hello_for("evil.test"), Err(Refusal::SniMismatch)),
            (&[22, 3, 1, 0, 4, 2, 0, 0, 0], Err(Refusal::BadHello)),
        ] {
            assert_eq!(outcome_at(at, b"", bytes).await, expected);
            assert_eq!(outcome_at(at, bytes, b"").await, expected);
        }
        assert_eq!(outcome_at(at, b"SSH-2.0-x", b"").await, Ok(Some(9)));
        assert_eq!(outcome_at(at, b"", b"").await, Ok(Some(0)));
        assert_eq!(outcome_at("192.0.2.1:443", b"SSH", b"").await, Ok(Some(3)));
    }

    #[tokio::test]
    async fn a_server_that_speaks_first_ends_the_wait() {
        let (_client, mut inner) = tokio::io::duplex(7);
        let greeting = Greeting::NotForOthers(Host::parse("allowed.example").unwrap());
        let read = greeting.read(&mut inner, Bytes::new(), std::future::ready(())).await;
        assert_eq!(read, Ok(Some(Bytes::new())));
    }
}
