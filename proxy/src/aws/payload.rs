//! The body of a request as the signature sees it: bytes with their hash, or a stream under a hash
//! or marker that the client declared.
//!
//! Invariant: a body that is not hashed here is signed with a literal that AWS checks itself, or, for
//! S3 only, with one that says that the payload is not signed.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method};
use sha2::{Digest as _, Sha256};
use workspace_common::body::{self, Body};

use super::region::Service;
use super::room::BodyRoom;
use crate::refusal::Refusal;

/// The header by which clients declare the hash of their body.
pub const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
/// S3 takes payloads outside the signature.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// S3 chunked uploads whose chunks carry no signature.
const STREAMING_UNSIGNED: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// What is known of a body before it is sent.
#[derive(Debug)]
pub enum Payload {
    /// Read whole and hashed here.
    Buffered {
        /// The body.
        content: Bytes,
        /// Its SHA-256 in hexadecimal.
        digest: String,
    },
    /// Passed on as it comes, under what the client declared.
    Declared {
        /// The stream.
        content: Body,
        /// The declared literal.
        digest: String,
    },
}

/// How a body is to be treated, decided before any of it is read.
enum Plan {
    Buffer,
    Pass(String),
}

impl Payload {
    /// Takes a request body in, reading it whole unless the client declared a usable literal.
    ///
    /// # Errors
    /// The body is over the limit or breaks off, there is no room for it, or is signed in a way this proxy cannot renew.
    pub async fn take(
        headers: &HeaderMap,
        content: Body,
        service: &Service,
        room: &BodyRoom,
    ) -> Result<Self, Refusal> {
        match plan(headers, service)? {
            Plan::Pass(digest) => Ok(Self::Declared { content, digest }),
            Plan::Buffer => Ok(Self::of_bytes(room.collect(content).await?)),
        }
    }

    /// A body of known bytes.
    #[must_use]
    pub fn of_bytes(content: Bytes) -> Self {
        let digest = hex(&Sha256::digest(&content));
        Self::Buffered { content, digest }
    }

    /// The literal for the last line of the canonical request.
    #[must_use]
    pub fn digest(&self) -> &str {
        match self {
            Self::Buffered { digest, .. } | Self::Declared { digest, .. } => digest,
        }
    }

    /// Makes the head agree with the body.
    pub fn describe(&self, parts: &mut Parts) {
        let Self::Buffered { content, .. } = self else { return };
        // A literal that was not kept would contradict the hash that is signed.
        parts.headers.remove(CONTENT_SHA256);
        let announces = !content.is_empty()
            || matches!(parts.method, Method::POST | Method::PUT | Method::PATCH);
        if announces {
            parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(content.len()));
        } else {
            parts.headers.remove(CONTENT_LENGTH);
        }
    }

    /// The body to send.
    #[must_use]
    pub fn into_body(self) -> Body {
        match self {
            Self::Buffered { content, .. } => body::full(content),
            Self::Declared { content, .. } => content,
        }
    }
}

fn plan(headers: &HeaderMap, service: &Service) -> Result<Plan, Refusal> {
    let mut values = headers.get_all(CONTENT_SHA256).iter();
    let literal = match (values.next(), values.next()) {
        (None, _) => return Ok(Plan::Buffer),
        (Some(value), None) => value.to_str().map_err(|_binary| Refusal::AwsUnsupported)?,
        (Some(_), Some(_)) => return Err(Refusal::AwsUnsupported),
    };
    if is_digest(literal) {
        return Ok(Plan::Pass(literal.to_owned()));
    }
    match literal {
        UNSIGNED | STREAMING_UNSIGNED if service.is_s3_family() => {
            Ok(Plan::Pass(literal.to_owned()))
        }
        // Other services want the hash itself, which can be had from the whole body.
        UNSIGNED => Ok(Plan::Buffer),
        // Chunk signatures and event streams would have to be made anew piece by piece.
        _ => Err(Refusal::AwsUnsupported),
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    async fn take(literal: Option<&str>, service: &str) -> Result<Payload, Refusal> {
        let mut headers = HeaderMap::new();
        if let Some(literal) = literal {
            headers.insert(CONTENT_SHA256, literal.parse().unwrap());
        }
        let service = Service::parse(service).unwrap();
        Payload::take(&headers, body::full("12345"), &service, &BodyRoom::new(5)).await
    }

    #[tokio::test]
    async fn literals_decide_between_hashing_and_passing_on() {
        let computed = Payload::of_bytes(Bytes::from_static(b"12345")).digest().to_owned();
        assert_eq!(Payload::of_bytes(Bytes::new()).digest(), EMPTY);
        let rows = [
            (None, "bedrock", computed.as_str()),
            (Some(EMPTY), "bedrock", EMPTY),
            (Some(EMPTY), "s3", EMPTY),
            (Some(UNSIGNED), "s3", UNSIGNED),
            (Some(STREAMING_UNSIGNED), "s3", STREAMING_UNSIGNED),
            (Some(UNSIGNED), "dynamodb", computed.as_str()),
        ];
        for (literal, service, digest) in rows {
            assert_eq!(take(literal, service).await.unwrap().digest(), digest, "{literal:?}");
        }
        for literal in
            ["STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-EVENTS", "x"]
        {
            let refusal = take(Some(literal), "s3").await.unwrap_err();
            assert_eq!(refusal, Refusal::AwsUnsupported, "{literal}");
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        let service = Service::bedrock();
        let refusal =
            Payload::take(&HeaderMap::new(), body::full("123456"), &service, &BodyRoom::new(5))
                .await;
        assert_eq!(refusal.unwrap_err(), Refusal::BodyTooLarge);
    }
}
