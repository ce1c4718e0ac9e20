//! Reads the server name out of a TLS client hello (RFC 8446 section 4.1.2, RFC 6066 section 3).
//!
//! Pure, bounded and strict: it understands just enough of the message to find the extension, and a
//! length that lies or a name that could be read in two ways is an error. It judges nothing.

use std::collections::HashSet;

use thiserror::Error;

/// Content type of a record that carries a handshake.
pub const HANDSHAKE: u8 = 22;
/// Handshake type of a client hello.
const CLIENT_HELLO: u8 = 1;
/// Most bytes of a record's content (RFC 8446 section 5.1).
const MAX_RECORD: usize = 1 << 14;
/// Most bytes of the message. Real ones have one or two kilobytes.
const MAX_MESSAGE: usize = 64 * 1024;
/// Most bytes that a client hello may take with its records. One of a byte a record is an attack.
pub const MAX_HELLO: usize = 96 * 1024;
const SERVER_NAME: u16 = 0;
/// RFC 9849: the visible name is that of a front, and the true one is encrypted.
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

/// What is of interest in a client hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// The host name as it was sent.
    pub server_name: Option<String>,
    /// Whether an encrypted client hello came along.
    pub encrypted: bool,
}

/// The bytes are no client hello.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HelloError {
    /// The first byte is none of a TLS handshake.
    #[error("this is not TLS")]
    NotTls,
    /// It begins like TLS and goes on wrongly.
    #[error("the client hello is malformed")]
    Malformed,
}

/// Puts the message together from the records of a growing buffer.
#[derive(Debug, Default)]
pub struct HelloReader {
    /// Bytes of the buffer that belong to records read already.
    at: usize,
    message: Vec<u8>,
}

impl HelloReader {
    /// Looks at everything received so far, of which earlier calls saw a prefix. Nothing while the
    /// message is incomplete.
    ///
    /// # Errors
    /// As soon as no continuation can be a client hello.
    pub fn read(&mut self, received: &[u8]) -> Result<Option<ClientHello>, HelloError> {
        if received.first().is_some_and(|kind| *kind != HANDSHAKE) {
            return Err(HelloError::NotTls);
        }
        while let Some(content) = record(received.get(self.at..).unwrap_or_default())? {
            self.at += RECORD_HEADER + content.len();
            if self.at > MAX_HELLO {
                return Err(HelloError::Malformed);
            }
            self.message.extend_from_slice(content);
            if let Some(body) = message_body(&self.message)? {
                return parse_body(body).ok_or(HelloError::Malformed).map(Some);
            }
        }
        Ok(None)
    }
}

const RECORD_HEADER: usize = 5;

/// The content of the record at the start, once it is complete.
fn record(bytes: &[u8]) -> Result<Option<&[u8]>, HelloError> {
    let Some((header, rest)) = bytes.split_at_checked(RECORD_HEADER) else { return Ok(None) };
    let &[kind, major, _minor, high, low] = header else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if kind != HANDSHAKE || major != 3 || !(1..=MAX_RECORD).contains(&length) {
        return Err(HelloError::Malformed);
    }
    Ok(rest.get(..length))
}

/// The body of the message, once it is complete. Nothing may follow it.
fn message_body(message: &[u8]) -> Result<Option<&[u8]>, HelloError> {
    let Some((header, body)) = message.split_at_checked(4) else { return Ok(None) };
    let &[kind, a, b, c] = header else { return Ok(None) };
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    if kind != CLIENT_HELLO || length > MAX_MESSAGE || body.len() > length {
        return Err(HelloError::Malformed);
    }
    Ok((body.len() == length).then_some(body))
}

fn parse_body(body: &[u8]) -> Option<ClientHello> {
    let mut body = Cursor(body);
    body.take(2 + 32)?;
    let session_id = body.sized_u8()?;
    let ciphers = body.sized_u16()?;
    let compressions = body.sized_u8()?;
    let shaped = session_id.len() <= 32
        && ciphers.len() >= 2
        && ciphers.len().is_multiple_of(2)
        && !compressions.is_empty();
    if !shaped {
        return None;
    }
    if body.is_empty() {
        return Some(ClientHello { server_name: None, encrypted: false });
    }
    let extensions = body.sized_u16()?;
    body.is_empty().then_some(())?;
    parse_extensions(extensions)
}

fn parse_extensions(extensions: &[u8]) -> Option<ClientHello> {
    let mut hello = ClientHello { server_name: None, encrypted: false };
    let mut extensions = Cursor(extensions);
    let mut seen = HashSet::new();
    while !extensions.is_empty() {
        let kind = extensions.u16()?;
        let content = extensions.sized_u16()?;
        if !seen.insert(kind) {
            return None;
        }
        match kind {
            SERVER_NAME => hello.server_name = Some(parse_server_name(content)?),
            ENCRYPTED_CLIENT_HELLO => hello.encrypted = true,
            _ => {}
        }
    }
    Some(hello)
}

/// Exactly one name, of type `host_name`. The RFC leaves room for more, which nobody uses and which
/// two readers could choose differently from.
fn parse_server_name(content: &[u8]) -> Option<String> {
    let mut content = Cursor(content);
    let mut list = Cursor(content.sized_u16()?);
    let kind = list.take(1)?;
    let name = list.sized_u16()?;
    let single = content.is_empty() && list.is_empty() && kind == [0] && !name.is_empty();
    let printable = name.iter().all(u8::is_ascii_graphic);
    if !single || !printable {
        return None;
    }
    String::from_utf8(name.to_vec()).ok()
}

/// Reads from the front; every step fails where the bytes end.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn sized_u8(&mut self) -> Option<&'a [u8]> {
        let length = *self.take(1)?.first()?;
        self.take(length.into())
    }

    fn sized_u16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sized(bytes: &[u8]) -> Vec<u8> {
        [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
    }

    fn server_name(entries: &[(u8, &[u8])]) -> Vec<u8> {
        let list: Vec<u8> =
            entries.iter().flat_map(|(k, n)| [&[*k][..], &sized(n)].concat()).collect();
        sized(&list)
    }

    fn hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let extensions: Vec<u8> = extensions
            .iter()
            .flat_map(|(kind, content)| [&kind.to_be_bytes()[..], &sized(content)].concat())
            .collect();
        let body = [&[3, 3][..], &[7; 32], &[0], &sized(&[0x13, 1]), &[1, 0], &sized(&extensions)]
            .concat();
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        let message = [&[1][..], &length[1..], &body].concat();
        [&[22, 3, 1][..], &sized(&message)].concat()
    }

    fn read(bytes: &[u8]) -> Result<Option<ClientHello>, HelloError> {
        HelloReader::default().read(bytes)
    }

    fn named(name: &str) -> ClientHello {
        ClientHello { server_name: Some(name.to_owned()), encrypted: false }
    }

    #[test]
    fn the_name_is_found_among_other_extensions() {
        let name = server_name(&[(0, b"Allowed.example")]);
        assert_eq!(read(&hello(&[(0, name.clone())])), Ok(Some(named("Allowed.example"))));
        let many = [(10, vec![0; 1200]), (0, name.clone()), (0xfe0d, vec![1])];
        let expected = ClientHello { encrypted: true, ..named("Allowed.example") };
        assert_eq!(read(&hello(&many)), Ok(Some(expected)));
        assert_eq!(read(&hello(&[])).unwrap().unwrap().server_name, None);
    }

    #[test]
    fn every_prefix_is_incomplete() {
        let bytes = hello(&[(0, server_name(&[(0, b"a.example")]))]);
        let mut reader = HelloReader::default();
        for end in 0..bytes.len() {
            assert_eq!(reader.read(&bytes[..end]), Ok(None), "{end}");
        }
        assert_eq!(reader.read(&bytes), Ok(Some(named("a.example"))));
    }

    #[test]
    fn malformed_hellos_are_refused() {
        let good = server_name(&[(0, b"a.example")]);
        let mut lying = hello(&[(0, good.clone())]);
        lying[6..9].copy_from_slice(&[0xff; 3]);
        for bytes in [
            hello(&[(0, good.clone()), (0, good.clone())]),
            hello(&[(0, server_name(&[(0, b"a.example"), (0, b"b.example")]))]),
            hello(&[(0, server_name(&[(1, b"a.example")]))]),
            hello(&[(0, server_name(&[(0, b"")]))]),
            hello(&[(0, server_name(&[(0, b"a\0b")]))]),
            hello(&[(0, vec![])]),
            hello(&[(0, [&good[..], &[0]].concat())]),
            lying,
            vec![22, 3, 1, 0, 4, 2, 0, 0, 0],
            vec![22, 3, 1, 0, 0],
            vec![22, 2, 1, 0, 1],
            vec![22, 3, 1, 0x40, 1],
        ] {
            assert_eq!(read(&bytes), Err(HelloError::Malformed), "{bytes:?}");
        }
        for bytes in [&b"GET /"[..], b"SSH-", &[0x80, 0x2e, 1], &[21, 3, 1, 0, 2]] {
            assert_eq!(read(bytes), Err(HelloError::NotTls), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _outcome = read(&[&[22, 3, 1][..], &tail].concat());
        }

        #[test]
        fn no_change_of_a_byte_panics_or_yields_a_name_that_is_not_there(at in 0usize..90, to in any::<u8>()) {
            let mut bytes = hello(&[(0, server_name(&[(0, b"a.example")]))]);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = to;
            }
            if let Ok(Some(ClientHello { server_name: Some(name), .. })) = read(&bytes) {
                prop_assert!(bytes.windows(name.len()).any(|window| window == name.as_bytes()));
            }
        }
    }
}
