//! The answer of an upstream proxy to a CONNECT. Pure.
//!
//! It is read as strictly as a request of a workspace: where its head ends, the tunnel begins, and
//! two readings of that would put words of the proxy into the mouth of the destination.

use http::HeaderName;

use crate::refusal::Refusal;

/// Largest head that is read.
pub const MAX_HEAD: usize = 16 * 1024;
/// Most header fields.
const MAX_FIELDS: usize = 100;

/// The bytes are no answer, or one with two readings.
const BAD: Refusal = Refusal::UpstreamProxyBadAnswer;

/// Looks for the end of a head of which the first `seen` bytes have been looked at before.
///
/// # Errors
/// As soon as nothing that may follow can make it a head.
pub fn find_end(bytes: &[u8], seen: usize) -> Result<Option<usize>, Refusal> {
    if !b"HTTP/1.".iter().zip(bytes).all(|(expected, byte)| expected == byte) {
        return Err(BAD);
    }
    for at in (seen..bytes.len()).filter(|at| bytes.get(*at) == Some(&b'\n')) {
        let before = bytes.get(..at).unwrap_or_default();
        if !before.ends_with(b"\r") {
            return Err(BAD);
        }
        if before.ends_with(b"\r\n\r") {
            return if at < MAX_HEAD { Ok(Some(at + 1)) } else { Err(BAD) };
        }
    }
    if bytes.len() > MAX_HEAD { Err(BAD) } else { Ok(None) }
}

/// Judges a whole head, its last empty line included.
///
/// # Errors
/// What keeps the tunnel from standing.
pub fn judge(head: &[u8]) -> Result<(), Refusal> {
    let text = std::str::from_utf8(head).ok().and_then(|text| text.strip_suffix("\r\n\r\n"));
    let mut lines = text.ok_or(BAD)?.split("\r\n");
    let status = status(lines.next().ok_or(BAD)?)?;
    let mut fields = 0;
    for line in lines {
        fields += 1;
        if fields > MAX_FIELDS {
            return Err(BAD);
        }
        let (name, value) = field(line)?;
        if status < 300 && announces_body(name, value) {
            return Err(BAD);
        }
    }
    match status {
        200..=299 => Ok(()),
        // 401 is for origins; there are proxies that answer a wrong password with it all the same.
        401 | 407 => Err(Refusal::UpstreamProxyAuth),
        300..=499 => Err(Refusal::UpstreamProxyDenied),
        504 => Err(Refusal::UpstreamProxyTimeout),
        500..=599 => Err(Refusal::UpstreamProxyFailed),
        _ => Err(BAD),
    }
}

/// `HTTP/1.1 200 Connection established`; the words may be missing.
fn status(line: &str) -> Result<u16, Refusal> {
    let rest = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "));
    let (digits, words) = rest.and_then(|rest| rest.split_at_checked(3)).ok_or(BAD)?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || !(words.is_empty() || words.starts_with(' ')) || !is_text(words) {
        return Err(BAD);
    }
    digits.parse().map_err(|_impossible| BAD)
}

/// Name and value. A folded line has no name.
fn field(line: &str) -> Result<(&str, &str), Refusal> {
    let (name, value) = line.split_once(':').ok_or(BAD)?;
    if HeaderName::try_from(name).is_err() || !is_text(value) {
        return Err(BAD);
    }
    Ok((name, value.trim_matches([' ', '\t'])))
}

fn is_text(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || !byte.is_ascii_control())
}

/// RFC 9110 section 9.3.6 has a client ignore these in a success. A proxy that sends them means
/// something by it, and what follows would be taken for the destination's.
fn announces_body(name: &str, value: &str) -> bool {
    name.eq_ignore_ascii_case("transfer-encoding")
        || (name.eq_ignore_ascii_case("content-length") && value != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_decides() {
        for (status, expected) in [
            ("200 Connection established", Ok(())),
            ("200", Ok(())),
            ("299 ", Ok(())),
            ("407 Proxy Authentication Required", Err(Refusal::UpstreamProxyAuth)),
            ("401 Unauthorized", Err(Refusal::UpstreamProxyAuth)),
            ("403 Forbidden", Err(Refusal::UpstreamProxyDenied)),
            ("302 Found", Err(Refusal::UpstreamProxyDenied)),
            ("502 Bad Gateway", Err(Refusal::UpstreamProxyFailed)),
            ("503 Service Unavailable", Err(Refusal::UpstreamProxyFailed)),
            ("504 Gateway Timeout", Err(Refusal::UpstreamProxyTimeout)),
            ("100 Continue", Err(BAD)),
            ("101 Switching Protocols", Err(BAD)),
            ("600 x", Err(BAD)),
            ("2000 x", Err(BAD)),
            ("+20 x", Err(BAD)),
        ] {
            for version in ["1.0", "1.1"] {
                let head = format!("HTTP/{version} {status}\r\nVia: x\r\n\r\n");
                assert_eq!(judge(head.as_bytes()), expected, "{head:?}");
            }
        }
    }

    #[test]
    fn heads_with_two_readings_are_refused() {
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nname : x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: a\u{0}b\r\n\r\n",
            "HTTP/1.1 200 O\u{7f}K\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "HTTP/1.2 200 OK\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "http/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK",
        ] {
            assert_eq!(judge(head.as_bytes()), Err(BAD), "{head:?}");
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(MAX_FIELDS + 1));
        assert_eq!(judge(many.as_bytes()), Err(BAD));
        assert_eq!(judge(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), Ok(()));
    }

    #[test]
    fn the_end_is_found_once_it_is_there_and_garbage_at_once() {
        let bytes = b"HTTP/1.1 200 OK\r\na: b\r\n\r\ntunnel\n";
        for cut in 0..bytes.len() {
            let first = find_end(&bytes[..cut], 0).unwrap();
            let end = first.or_else(|| find_end(bytes, cut).unwrap());
            assert_eq!(end, Some(25), "{cut}");
        }
        for garbage in [&b"\x16\x03"[..], b"HTTP/2", b"HTTP/1.1 200 OK\n"] {
            assert_eq!(find_end(garbage, 0), Err(BAD), "{garbage:?}");
        }
        let long = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &vec![b'a'; MAX_HEAD]].concat();
        assert_eq!(find_end(&long, 0), Err(BAD));
    }
}
