//! The headers of a route, with their secret values.
//!
//! Invariant: every name and value in a [`HeaderInjection`] can be sent, no name is one that frames,
//! routes or authenticates a hop, and no two names are the same to any server.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use thiserror::Error;
use workspace_common::secret::Secret;

use super::{remove_where, same_header};
use crate::refusal::Refusal;

/// Most headers a route may set.
const MAX_HEADERS: usize = 32;
/// Longest value of one of them, in bytes.
const MAX_VALUE: usize = 8192;

/// Names that frame a message, direct it or belong to one hop. `proxy-*` and `sec-*` come on top.
const RESERVED: [&str; 20] = [
    "alt-used",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-proxy-error",
];

/// Headers to put onto the requests of a route.
#[derive(Clone, Debug, Default)]
pub struct HeaderInjection(Vec<(HeaderName, Secret<Vec<u8>>)>);

/// Why a header cannot be injected. Never shows the value.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadHeader {
    /// The name is no token of RFC 9110.
    #[error("is not a header name: use letters, digits and !#$%&'*+-.^_`|~")]
    Name,
    /// The name frames or routes messages, or belongs to a single hop.
    #[error("is a header that cannot be set by a rule: it frames, routes or belongs to one hop")]
    Reserved,
    /// The name was given before, perhaps in another spelling.
    #[error("is given twice: letter case and '_' for '-' make no difference")]
    Duplicate,
    /// The value has no visible character.
    #[error("has an empty value")]
    Empty,
    /// The value begins or ends with a blank.
    #[error("has a value that begins or ends with a space or tab")]
    Padded,
    /// The value holds a control or non-ASCII character.
    #[error("has a value with a character other than visible ASCII, space and tab")]
    Character,
    /// The value is over 8192 bytes.
    #[error("has a value longer than {MAX_VALUE} bytes")]
    TooLong,
    /// The route has 32 headers already.
    #[error("is one header too many: at most {MAX_HEADERS} are taken")]
    TooMany,
}

impl BadHeader {
    /// The stable code for error documents.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Name => "bad_header_name",
            Self::Reserved => "reserved_header",
            Self::Duplicate => "duplicate_header",
            Self::Empty | Self::Padded | Self::Character | Self::TooLong => "bad_header_value",
            Self::TooMany => "too_many_headers",
        }
    }
}

impl HeaderInjection {
    /// Adds a header.
    ///
    /// # Errors
    /// The name or the value cannot be injected; nothing was added.
    pub fn add(&mut self, name: &str, value: Secret<Vec<u8>>) -> Result<(), BadHeader> {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_no_token| BadHeader::Name)?;
        if is_reserved(&name) {
            return Err(BadHeader::Reserved);
        }
        if self.0.iter().any(|(present, _)| same_header(present, &name)) {
            return Err(BadHeader::Duplicate);
        }
        if self.0.len() >= MAX_HEADERS {
            return Err(BadHeader::TooMany);
        }
        check_value(value.expose())?;
        self.0.push((name, value));
        Ok(())
    }

    /// The names, in the order given.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.0.iter().map(|(name, _)| name)
    }

    /// Whether there is nothing to inject.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts the headers onto a request, in place of whatever the client sent under these names.
    ///
    /// # Errors
    /// A value cannot be sent after all, which [`HeaderInjection::add`] excludes. The type says so
    /// because a request without its credential must not leave.
    pub fn apply(&self, headers: &mut HeaderMap) -> Result<(), Refusal> {
        for (name, value) in &self.0 {
            remove_where(headers, |present| same_header(name, present));
            let mut value = HeaderValue::from_bytes(value.expose())
                .map_err(|_excluded| Refusal::CredentialsUnavailable)?;
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        Ok(())
    }

    /// Overwrites each occurrence of an injected value in the headers of a response and says in how
    /// many headers one was found. Left are values of less than 8 bytes, which occur by chance, and
    /// those of headers that are never a credential: an injected `Accept: application/json` must not
    /// take the media type out of the answer.
    pub fn redact(&self, headers: &mut HeaderMap) -> usize {
        let mut found = 0;
        for held in headers.values_mut() {
            if let Some(clean) = self.redacted(held.as_bytes()) {
                *held = HeaderValue::from_bytes(&clean)
                    .unwrap_or_else(|_impossible| HeaderValue::from_static("[redacted]"));
                found += 1;
            }
        }
        found
    }

    fn redacted(&self, held: &[u8]) -> Option<Vec<u8>> {
        const LEAST: usize = 8;
        const COVER: &[u8] = b"[redacted]";
        let mut clean: Option<Vec<u8>> = None;
        let secrets = self.0.iter().filter(|(name, _)| !is_public(name));
        for secret in secrets.flat_map(|(_, value)| parts(value.expose())) {
            let text = clean.as_deref().unwrap_or(held);
            if secret.len() >= LEAST && contains(text, secret) {
                clean = Some(replace(text, secret, COVER));
            }
        }
        clean
    }
}

/// A value is looked for as a whole and, where it is `Scheme token`, by its token alone.
fn parts(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let token = value.iter().position(|byte| *byte == b' ').and_then(|at| value.get(at + 1..));
    std::iter::once(value).chain(token)
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

fn replace(text: &[u8], wanted: &[u8], cover: &[u8]) -> Vec<u8> {
    let mut clean = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(wanted) {
            clean.extend_from_slice(cover);
            rest = after;
        } else {
            clean.push(*first);
            rest = tail;
        }
    }
    clean
}

/// Headers that say what is spoken and by what program.
fn is_public(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(name, "accept" | "user-agent")
        || name.starts_with("accept-")
        || name.starts_with("content-")
        || name.ends_with("-version")
}

fn is_reserved(name: &HeaderName) -> bool {
    let folded = name.as_str().replace('_', "-");
    RESERVED.contains(&folded.as_str())
        || folded.starts_with("proxy-")
        || folded.starts_with("sec-")
}

fn check_value(value: &[u8]) -> Result<(), BadHeader> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    match (value.first(), value.last()) {
        (Some(first), Some(last)) if blank(first) || blank(last) => Err(BadHeader::Padded),
        (None, _) | (_, None) => Err(BadHeader::Empty),
        _ if value.len() > MAX_VALUE => Err(BadHeader::TooLong),
        _ if !value.iter().all(|byte| byte.is_ascii_graphic() || blank(byte)) => {
            Err(BadHeader::Character)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injection(pairs: &[(&str, &str)]) -> Result<HeaderInjection, BadHeader> {
        let mut headers = HeaderInjection::default();
        for (name, value) in pairs {
            headers.add(name, Secret::new(value.as_bytes().to_vec()))?;
        }
        Ok(headers)
    }

    #[test]
    fn injected_headers_replace_every_copy_of_the_clients() {
        let mut headers = HeaderMap::new();
        headers.append("authorization", HeaderValue::from_static("Bearer MINE"));
        headers.append("authorization", HeaderValue::from_static("Bearer MINE2"));
        headers.append("x_api_key", HeaderValue::from_static("MINE3"));
        headers.append("accept", HeaderValue::from_static("*/*"));
        let ours = injection(&[("Authorization", "Bearer OURS"), ("X-Api-Key", "k")]).unwrap();
        ours.apply(&mut headers).unwrap();
        assert_eq!(headers.len(), 3);
        assert_eq!(headers["authorization"], "Bearer OURS");
        assert_eq!(headers["x-api-key"], "k");
        assert!(headers["authorization"].is_sensitive());
        assert!(!format!("{headers:?} {ours:?}").contains("OURS"));
    }

    #[test]
    fn names_that_frame_or_route_are_refused() {
        for name in [
            "Host",
            "Content-Length",
            "transfer_encoding",
            "TE",
            "Upgrade",
            "Connection",
            "Keep-Alive",
            "Proxy-Authorization",
            "proxy-anything",
            "Forwarded",
            "X-Forwarded-For",
            "Expect",
            "Via",
            "Trailer",
            "Sec-WebSocket-Key",
        ] {
            assert_eq!(injection(&[(name, "v")]).unwrap_err(), BadHeader::Reserved, "{name}");
        }
        for name in ["", ":path", "a b", "a\r\nb", "\u{e9}", "a:"] {
            assert_eq!(injection(&[(name, "v")]).unwrap_err(), BadHeader::Name, "{name}");
        }
    }

    #[test]
    fn duplicate_names_are_found_in_every_spelling() {
        for other in ["authorization", "AUTHORIZATION"] {
            let error = injection(&[("Authorization", "a"), (other, "b")]).unwrap_err();
            assert_eq!(error, BadHeader::Duplicate);
        }
        let error = injection(&[("X-Api-Key", "a"), ("x_api_key", "b")]).unwrap_err();
        assert_eq!(error.code(), "duplicate_header");
    }

    #[test]
    fn values_that_cannot_be_sent_are_refused() {
        let long = "v".repeat(MAX_VALUE + 1);
        let rows = [
            ("", BadHeader::Empty),
            (" v", BadHeader::Padded),
            ("v\t", BadHeader::Padded),
            ("a\r\nX: 1", BadHeader::Character),
            ("a\0b", BadHeader::Character),
            ("caf\u{e9}", BadHeader::Character),
            (long.as_str(), BadHeader::TooLong),
        ];
        for (value, error) in rows {
            assert_eq!(injection(&[("x-key", value)]).unwrap_err(), error);
        }
        assert!(injection(&[("x-key", &"v".repeat(MAX_VALUE))]).is_ok());
        assert!(injection(&[("x-key", "Bearer a\tb")]).is_ok());
    }

    #[test]
    fn only_so_many_headers_are_taken() {
        let names: Vec<String> = (0..=MAX_HEADERS).map(|n| format!("x-{n}")).collect();
        let pairs: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
        assert!(injection(&pairs[..MAX_HEADERS]).is_ok());
        assert_eq!(injection(&pairs).unwrap_err(), BadHeader::TooMany);
    }

    #[test]
    fn answers_that_echo_a_value_are_redacted() {
        let ours = injection(&[
            ("authorization", "Bearer s3cr3t-t0ken"),
            ("x-short", "abc"),
            ("accept", "application/json"),
        ])
        .unwrap();
        let mut headers = HeaderMap::new();
        headers
            .insert("location", HeaderValue::from_static("https://x.test/?k=s3cr3t-t0ken&a=abc"));
        headers.insert("x-echo", HeaderValue::from_static("Bearer s3cr3t-t0ken"));
        headers.insert("x-other", HeaderValue::from_static("plain"));
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        assert_eq!(ours.redact(&mut headers), 2);
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers["location"], "https://x.test/?k=[redacted]&a=abc");
        assert_eq!(headers["x-echo"], "[redacted]");
        assert_eq!(headers["x-other"], "plain");
    }
}
