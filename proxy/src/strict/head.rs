//! The head of a request, byte by byte, before any library has repaired it.
//!
//! Pure. It refuses what two readers could read in two ways: other line ends than CRLF, control
//! characters, folded lines, blanks around names, lengths that are doubled, signed or beside a
//! transfer coding. What the head asks for is not judged here.

use crate::refusal::Refusal;

/// Most header fields.
const MAX_FIELDS: usize = 100;
/// Longest `Content-Length`: 18 digits fit into 64 bits whatever they are.
const MAX_DIGITS: usize = 18;

/// What follows a head on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// That many bytes of a body, and then the next head.
    Sized(u64),
    /// A body in chunks, and then the next head.
    Chunked,
    /// Whatever the two ends agree on: a tunnel, a WebSocket. If they do not, nothing.
    Opaque,
}

/// Looks for the end of a head of which the first `seen` bytes have been looked at before, and which
/// may have `most`, request line and headers together.
///
/// # Errors
/// As soon as nothing that may follow can make it a head.
pub fn find_end(bytes: &[u8], seen: usize, most: usize) -> Result<Option<usize>, Refusal> {
    for at in (seen..bytes.len()).filter(|at| bytes.get(*at) == Some(&b'\n')) {
        let before = bytes.get(..at).unwrap_or_default();
        if !before.ends_with(b"\r") {
            return Err(Refusal::BadRequest);
        }
        if before.ends_with(b"\r\n\r") {
            return if at < most { Ok(Some(at + 1)) } else { Err(too_large(bytes, most)) };
        }
    }
    if bytes.len() > most { Err(too_large(bytes, most)) } else { Ok(None) }
}

fn too_large(bytes: &[u8], most: usize) -> Refusal {
    let line = bytes.get(..most).unwrap_or(bytes);
    if line.contains(&b'\n') { Refusal::HeadTooLarge } else { Refusal::UriTooLong }
}

/// Checks a whole head, its last empty line included.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn check(head: &[u8]) -> Result<Follows, Refusal> {
    let text = head.strip_suffix(b"\r\n\r\n").ok_or(Refusal::BadRequest)?;
    let mut lines = Lines(Some(text));
    let line = RequestLine::parse(lines.next().ok_or(Refusal::BadRequest)?)?;
    let mut framing = Framing::default();
    for (at, field) in lines.enumerate() {
        if at == MAX_FIELDS {
            return Err(Refusal::HeadTooLarge);
        }
        let (name, value) = parse_field(field)?;
        framing.note(name, value)?;
    }
    framing.follows(&line)
}

/// The parts between CRLF. A CR or LF of its own stays in a part, where no character set has it.
struct Lines<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0.take()?;
        let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else { return Some(rest) };
        let (line, rest) = rest.split_at(end);
        self.0 = rest.get(2..);
        Some(line)
    }
}

struct RequestLine<'a> {
    method: &'a [u8],
    version_1_0: bool,
}

impl<'a> RequestLine<'a> {
    fn parse(line: &'a [u8]) -> Result<Self, Refusal> {
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::BadRequest);
        };
        if method.is_empty() || !method.iter().copied().all(is_token) {
            return Err(Refusal::BadRequest);
        }
        // A name in small letters is an attempt to have `connect` taken for something else; the mark
        // that `Strict` leaves for a refused head is among what is refused here, too.
        let plain =
            |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
        if !method.iter().all(plain) {
            return Err(Refusal::UnsupportedMethod);
        }
        if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
            return Err(Refusal::BadRequest);
        }
        // A fragment is the client's own; a parser that cuts it off sees another host or path.
        if target.contains(&b'#') {
            return Err(Refusal::BadPath);
        }
        let version_1_0 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ => return Err(Refusal::BadRequest),
        };
        Ok(Self { method, version_1_0 })
    }
}

/// Name and value, without the blanks around the value.
fn parse_field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Refusal::BadRequest)?;
    let (name, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default();
    let text = |b: &u8| *b == b'\t' || !b.is_ascii_control();
    if name.is_empty() || !name.iter().copied().all(is_token) || !value.iter().all(text) {
        return Err(Refusal::BadRequest);
    }
    Ok((name, value.trim_ascii()))
}

/// RFC 9110 section 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// What the fields say about the body.
#[derive(Default)]
struct Framing {
    length: Option<u64>,
    chunked: bool,
    websocket: bool,
}

impl Framing {
    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = parse_length(value).ok_or(Refusal::BadFraming)?;
            if self.length.replace(length).is_some() {
                return Err(Refusal::BadFraming);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::BadFraming);
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.websocket |= value.eq_ignore_ascii_case(b"websocket");
        }
        Ok(())
    }

    fn follows(&self, line: &RequestLine<'_>) -> Result<Follows, Refusal> {
        let length = self.length.unwrap_or(0);
        if line.method == b"CONNECT" {
            let body = self.chunked || length > 0;
            return if body { Err(Refusal::ConnectBody) } else { Ok(Follows::Opaque) };
        }
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Refusal::BadFraming),
            (true, None) if line.version_1_0 => Err(Refusal::BadFraming),
            (true, None) => Ok(Follows::Chunked),
            (false, _) if self.websocket && length == 0 => Ok(Follows::Opaque),
            (false, _) => Ok(Follows::Sized(length)),
        }
    }
}

/// A length without a sign, in range.
pub(super) fn parse_length(value: &[u8]) -> Option<u64> {
    let plain = (1..=MAX_DIGITS).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| plain)?.parse().ok()
}

#[cfg(test)]
mod tests;
