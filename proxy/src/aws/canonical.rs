//! The path and query that are signed, and that therefore have to be sent. Pure.
//!
//! AWS computes the signature over its own reading of a request. Where two readings are possible
//! this module refuses instead of guessing, so that what the policy saw, what was signed and what AWS
//! executes are one thing.
//!
//! Invariant: the path of a request to anything but S3 leaves byte for byte as it came.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use thiserror::Error;

use super::region::Service;

/// Everything but the unreserved characters of RFC 3986: what AWS calls `UriEncode`.
const URI_ENCODE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same with the slash kept, for object keys.
const URI_ENCODE_PATH: &AsciiSet = &URI_ENCODE.remove(b'/');

/// Query parameters that carry a client's own signature, in lower case.
const AUTH_PARAMETERS: [&str; 7] = [
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
];

/// Why a path or query cannot be signed without guessing how AWS reads it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CanonicalError {
    /// A `%` without two hexadecimal digits after it.
    #[error("a percent sign is not followed by two hexadecimal digits")]
    BadEscape,
    /// An escape that decodes to a control character.
    #[error("an encoded control character")]
    Control,
    /// A segment that is or decodes to `.` or `..`, or an empty one.
    #[error("an empty or dot segment in the path")]
    DotSegment,
    /// Bytes that are no UTF-8 text once decoded, or a raw character outside ASCII.
    #[error("the text is not UTF-8 or not escaped")]
    NotUtf8,
}

/// The path to sign and send for `service`.
///
/// # Errors
/// The path has more than one reading.
pub fn path<'a>(path: &'a str, service: &Service) -> Result<Cow<'a, str>, CanonicalError> {
    let decoded = decode(path)?;
    if service.is_s3_family() {
        let encoded = utf8_percent_encode(&decoded, URI_ENCODE_PATH).to_string();
        return Ok(Cow::Owned(if encoded.is_empty() { "/".to_owned() } else { encoded }));
    }
    check_segments(path)?;
    Ok(Cow::Borrowed(if path.is_empty() { "/" } else { path }))
}

/// The query to sign and send: without a client's signature, every part encoded the way AWS does.
/// `None` where nothing is left.
///
/// # Errors
/// A part has more than one reading.
pub fn query(raw: &str) -> Result<Option<String>, CanonicalError> {
    let mut parts = Vec::new();
    for part in raw.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (part, None),
        };
        let name = decode_form(name)?;
        if AUTH_PARAMETERS.iter().any(|auth| name.eq_ignore_ascii_case(auth)) {
            continue;
        }
        let name = utf8_percent_encode(&name, URI_ENCODE).to_string();
        parts.push(match value {
            Some(value) => {
                format!("{name}={}", utf8_percent_encode(&decode_form(value)?, URI_ENCODE))
            }
            None => name,
        });
    }
    Ok(if parts.is_empty() { None } else { Some(parts.join("&")) })
}

/// AWS reads `+` in a query as a space.
fn decode_form(text: &str) -> Result<String, CanonicalError> {
    Ok(decode(&text.replace('+', "%20"))?.into_owned())
}

fn decode(text: &str) -> Result<Cow<'_, str>, CanonicalError> {
    if !text.is_ascii() {
        return Err(CanonicalError::NotUtf8);
    }
    if !escapes_are_whole(text) {
        return Err(CanonicalError::BadEscape);
    }
    let decoded =
        percent_decode_str(text).decode_utf8().map_err(|_broken| CanonicalError::NotUtf8)?;
    if decoded.chars().any(char::is_control) {
        return Err(CanonicalError::Control);
    }
    Ok(decoded)
}

fn escapes_are_whole(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        after.as_bytes().get(..2).is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit))
    })
}

/// AWS normalises the paths of all services but S3 before it checks the signature, so a path that
/// normalisation would change is not the path a policy looked at. `%2F` stays inside its segment.
fn check_segments(path: &str) -> Result<(), CanonicalError> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    if inner.is_empty() {
        return Ok(());
    }
    for segment in inner.split('/') {
        let decoded = decode(segment)?;
        if decoded.is_empty() || decoded.split(['/', '\\']).any(|part| matches!(part, "." | "..")) {
            return Err(CanonicalError::DotSegment);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bedrock(text: &str) -> Result<String, CanonicalError> {
        path(text, &Service::bedrock()).map(Cow::into_owned)
    }

    fn s3(text: &str) -> Result<String, CanonicalError> {
        path(text, &Service::parse("s3").unwrap()).map(Cow::into_owned)
    }

    #[test]
    fn paths_of_other_services_are_left_alone() {
        for text in
            ["/", "/model/a:0/invoke", "/model/a%3A0/invoke", "/model/arn%2Fx/invoke", "/a/"]
        {
            assert_eq!(bedrock(text).unwrap(), text);
        }
        assert_eq!(bedrock("").unwrap(), "/");
    }

    #[test]
    fn paths_that_normalisation_would_change_are_refused() {
        let rows = [
            ("/model/../x", CanonicalError::DotSegment),
            ("/model/%2e%2E/x", CanonicalError::DotSegment),
            ("/model/..%2fx", CanonicalError::DotSegment),
            ("/model/./x", CanonicalError::DotSegment),
            ("/model//x", CanonicalError::DotSegment),
            ("//model", CanonicalError::DotSegment),
            ("/model/%zz", CanonicalError::BadEscape),
            ("/model/%4", CanonicalError::BadEscape),
            ("/model/%00", CanonicalError::Control),
            ("/model/%0d%0a", CanonicalError::Control),
            ("/model/%ff", CanonicalError::NotUtf8),
            ("/model/\u{e9}", CanonicalError::NotUtf8),
        ];
        for (text, error) in rows {
            assert_eq!(bedrock(text), Err(error), "{text}");
        }
    }

    #[test]
    fn object_keys_are_encoded_once_and_never_normalised() {
        let rows = [
            ("/a%20b/c+d=e:f(1)%c3%a9'*!~", "/a%20b/c%2Bd%3De%3Af%281%29%C3%A9%27%2A%21~"),
            ("/b//x", "/b//x"),
            ("/b/../x", "/b/../x"),
            ("/b/%2e/x", "/b/./x"),
            ("", "/"),
        ];
        for (text, expected) in rows {
            assert_eq!(s3(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn queries_are_encoded_and_lose_a_clients_signature() {
        let rows = [
            ("", None),
            ("uploads", Some("uploads")),
            ("uploads=", Some("uploads=")),
            ("a=b=c", Some("a=b%3Dc")),
            ("a=2&a=1", Some("a=2&a=1")),
            ("a=1&&b=2", Some("a=1&b=2")),
            ("prefix=a+b%2f", Some("prefix=a%20b%2F")),
            ("X-Amz-Signature=s&x-AMZ-security-TOKEN=t&type=x", Some("type=x")),
            ("X%2dAmz-Credential=k", None),
        ];
        for (text, expected) in rows {
            assert_eq!(query(text).unwrap().as_deref(), expected, "{text}");
        }
        assert_eq!(query("a=%FF"), Err(CanonicalError::NotUtf8));
        assert_eq!(query("a=%f"), Err(CanonicalError::BadEscape));
    }
}
