//! The one body type of both binaries, and ways to make and read it.

use bytes::{Bytes, BytesMut};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};

/// The error of a body that streams from somewhere.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A response or request body, streaming or not.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Why a body could not be read whole.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is longer than the caller allows.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The connection failed before its end.
    #[error("the body ended early")]
    Failed(#[source] BoxError),
}

/// A body without content.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body of known content.
pub fn full(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A JSON body. `Value` cannot fail to serialise, so neither can this.
pub fn json(value: &serde_json::Value) -> Body {
    full(format!("{value}\n"))
}

/// Reads a body whole, refusing more than `limit` bytes before they are stored.
///
/// # Errors
/// [`BodyError::TooLarge`] as soon as the limit is passed, or at once when the length is announced;
/// [`BodyError::Failed`] when the peer cut it.
pub async fn collect_limited<B>(body: B, limit: usize) -> Result<Bytes, BodyError>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(BodyError::TooLarge(limit));
    }
    let mut body = std::pin::pin!(body);
    let mut content = BytesMut::with_capacity(announced);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BodyError::Failed(error.into()))?;
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > limit - content.len() {
            return Err(BodyError::TooLarge(limit));
        }
        content.extend_from_slice(&data);
    }
    Ok(content.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_at_the_limit_is_read_and_one_byte_more_is_refused() {
        assert_eq!(collect_limited(full("12345"), 5).await.unwrap(), "12345");
        assert!(matches!(collect_limited(full("123456"), 5).await, Err(BodyError::TooLarge(5))));
    }
}
