//! The TLS client hello at the start of a tunnel: its server name must be the host that the tunnel
//! was permitted for, or the permission would be for one host and the conversation with another.
//!
//! The hello is read and passed on unchanged. Nothing is decrypted, nothing is answered.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::host::Host;
use crate::policy::tunnel::{Ech, ServerNames, TunnelTerms};
use crate::refusal::Refusal;
use crate::tunnel::client_hello::{ClientHello, HelloError, HelloReader, MAX_HELLO};

/// Reads a client hello, of which `early` has come already, and everything that came with it, to be
/// sent on first. Nothing when the client left without a byte.
///
/// # Errors
/// What came is no hello, or none came within `patience`.
pub async fn read<C>(
    client: &mut C,
    early: Bytes,
    patience: Duration,
) -> Result<Option<(Bytes, ClientHello)>, Refusal>
where
    C: AsyncRead + Unpin,
{
    // Boxed, so that the reader's state does not stay with the tunnel for its whole life.
    let reading = tokio::time::timeout(patience, Box::pin(receive(client, early)));
    reading.await.unwrap_or(Err(Refusal::HelloTimeout))
}

async fn receive<C>(client: &mut C, early: Bytes) -> Result<Option<(Bytes, ClientHello)>, Refusal>
where
    C: AsyncRead + Unpin,
{
    let mut reader = HelloReader::default();
    let mut bytes = BytesMut::from(early);
    loop {
        if let Some(hello) = reader.read(&bytes)? {
            return Ok(Some((bytes.freeze(), hello)));
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

/// Judges a hello in a tunnel that was permitted for a host. `allowed` says whether a tunnel to
/// another one would be.
///
/// # Errors
/// Why the tunnel must be closed.
pub fn judge(
    hello: &ClientHello,
    host: &Host,
    terms: TunnelTerms,
    allowed: impl Fn(&Host) -> bool,
) -> Result<(), Refusal> {
    if hello.encrypted && terms.ech == Ech::Deny {
        return Err(Refusal::EchDenied);
    }
    let Some(name) = hello.server_name.as_deref() else {
        // An address has no name that a client could send.
        let needed = matches!(terms.names, ServerNames::Strict | ServerNames::AnyAllowed);
        return if needed && !host.is_ip() { Err(Refusal::SniMissing) } else { Ok(()) };
    };
    let passes = match (Host::parse(name), terms.names) {
        (Ok(_), ServerNames::Any) => true,
        (Ok(named), ServerNames::AnyAllowed) => named == *host || allowed(&named),
        (Ok(named), ServerNames::Strict | ServerNames::Optional) => named == *host,
        (Err(_), _) => false,
    };
    if passes { Ok(()) } else { Err(Refusal::SniMismatch) }
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
        let (mut client, mut inner) = tokio::io::duplex(7);
        let later = later.to_vec();
        let send = async move {
            // The reader may have seen enough.
            let _sent = client.write_all(&later).await;
            drop(client);
        };
        let early = Bytes::copy_from_slice(early);
        let read = async move {
            let result = read(&mut inner, early, Duration::from_secs(60)).await;
            drop(inner);
            result
        };
        let (result, ()) = tokio::join!(read, send);
        let Some((bytes, hello)) = result? else { return Ok(None) };
        let host = Host::parse("allowed.example").unwrap();
        judge(&hello, &host, TunnelTerms::default(), |_| true).map(|()| Some(bytes.len()))
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

    #[test]
    fn a_rule_says_which_names_pass() {
        let host = Host::parse("allowed.example").unwrap();
        let address = Host::parse("192.0.2.1").unwrap();
        let judged = |names, at: &Host, name: Option<&str>| {
            let hello = ClientHello { server_name: name.map(str::to_owned), encrypted: true };
            let terms = TunnelTerms { names, ..TunnelTerms::default() };
            judge(&hello, at, terms, |named| named.name() == Some("other.example"))
        };
        let (missing, mismatch) = (Err(Refusal::SniMissing), Err(Refusal::SniMismatch));
        for (names, at, name, expected) in [
            (ServerNames::Strict, &host, Some("ALLOWED.example."), Ok(())),
            (ServerNames::Strict, &host, Some("other.example"), mismatch),
            (ServerNames::Strict, &host, None, missing),
            (ServerNames::Strict, &address, None, Ok(())),
            (ServerNames::Strict, &address, Some("other.example"), mismatch),
            (ServerNames::Optional, &host, None, Ok(())),
            (ServerNames::Optional, &host, Some("other.example"), mismatch),
            (ServerNames::AnyAllowed, &host, Some("other.example"), Ok(())),
            (ServerNames::AnyAllowed, &host, Some("evil.test"), mismatch),
            (ServerNames::AnyAllowed, &host, None, missing),
            (ServerNames::Any, &host, Some("evil.test"), Ok(())),
            (ServerNames::Any, &host, None, Ok(())),
            (ServerNames::Any, &host, Some("a..b"), mismatch),
        ] {
            assert_eq!(judged(names, at, name), expected, "{names:?} {name:?}");
        }
        let hello =
            ClientHello { server_name: Some("allowed.example".to_owned()), encrypted: true };
        let terms = TunnelTerms { ech: Ech::Deny, ..TunnelTerms::default() };
        assert_eq!(judge(&hello, &host, terms, |_| true), Err(Refusal::EchDenied));
    }

    #[tokio::test]
    async fn a_silent_client_is_not_waited_for() {
        let (_client, mut inner) = tokio::io::duplex(7);
        let heard = read(&mut inner, Bytes::new(), Duration::from_millis(1)).await;
        assert_eq!(heard, Err(Refusal::HelloTimeout));
    }
}
