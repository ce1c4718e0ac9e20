//! Bearer tokens (RFC 6750): read from a file, compared in constant time.

use std::{io, path::Path, path::PathBuf};

use http::{HeaderMap, header::AUTHORIZATION};
use subtle::ConstantTimeEq;

use crate::secret::Secret;

/// A token file larger than this is a mistake, not a token.
const MAX_TOKEN_BYTES: usize = 4096;

/// The token that callers of a listener must present.
#[derive(Clone, Debug)]
pub struct BearerToken(Secret<Vec<u8>>);

/// Why a token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read token file {path}: {source}; create it or correct the path")]
    Unreadable {
        /// The path as given.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file holds nothing but white space.
    #[error("token file {0} is empty; write the token into it")]
    Empty(PathBuf),
    /// The file holds something that cannot be a bearer token.
    #[error(
        "token file {0} is not a token: it must be one line of at most {MAX_TOKEN_BYTES} visible ASCII characters"
    )]
    Malformed(PathBuf),
}

/// The caller did not present the token. Carries no detail on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a valid bearer token is required")]
pub struct Unauthorized;

impl BearerToken {
    /// Reads a token from `path`; surrounding white space is dropped.
    ///
    /// # Errors
    /// When the file cannot be read, is empty, or does not hold a token.
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        let text = std::fs::read(path)
            .map_err(|source| TokenError::Unreadable { path: path.to_owned(), source })?;
        let token = text.trim_ascii();
        if token.is_empty() {
            return Err(TokenError::Empty(path.to_owned()));
        }
        if token.len() > MAX_TOKEN_BYTES || !token.iter().all(u8::is_ascii_graphic) {
            return Err(TokenError::Malformed(path.to_owned()));
        }
        Ok(Self(Secret::new(token.to_owned())))
    }

    /// Checks that `headers` present this token: exactly one `Authorization`, scheme `Bearer`.
    ///
    /// # Errors
    /// [`Unauthorized`] in every other case, without saying which.
    pub fn authorize(&self, headers: &HeaderMap) -> Result<(), Unauthorized> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(Unauthorized);
        };
        let presented = strip_scheme(value.as_bytes()).ok_or(Unauthorized)?;
        if bool::from(self.0.expose().ct_eq(presented)) { Ok(()) } else { Err(Unauthorized) }
    }

    /// The value of an `Authorization` header that presents this token.
    pub fn header_value(&self) -> Option<http::HeaderValue> {
        let text = [b"Bearer ", self.0.expose().as_slice()].concat();
        let mut value = http::HeaderValue::from_bytes(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// The credentials behind `Bearer `, the scheme compared without case (RFC 9110, section 11.1).
fn strip_scheme(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(rest)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn token(text: &str) -> Result<BearerToken, TokenError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, text).unwrap();
        BearerToken::load(&path)
    }

    fn presented(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|v| (AUTHORIZATION, HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn the_exact_token_is_accepted_and_nothing_else() {
        let token = token("  s3cret\n").unwrap();
        assert_eq!(token.authorize(&presented(&["Bearer s3cret"])), Ok(()));
        assert_eq!(token.authorize(&presented(&["bearer s3cret"])), Ok(()));
        for wrong in [
            &[][..],
            &["Bearer s3cre"],
            &["Bearer s3cret2"],
            &["Bearer "],
            &["Bearer"],
            &["s3cret"],
            &["Basic s3cret"],
            &["Bearer s3cret", "Bearer s3cret"],
        ] {
            assert_eq!(token.authorize(&presented(wrong)), Err(Unauthorized), "{wrong:?}");
        }
    }

    #[test]
    fn files_without_a_token_are_refused() {
        assert!(matches!(token(" \n"), Err(TokenError::Empty(_))));
        assert!(matches!(token("two\nlines"), Err(TokenError::Malformed(_))));
        assert!(matches!(
            BearerToken::load(Path::new("/nonexistent/token")),
            Err(TokenError::Unreadable { .. })
        ));
    }

    #[test]
    fn debug_and_errors_hide_the_token() {
        assert!(!format!("{:?}", token("s3cret").unwrap()).contains("s3cret"));
        assert!(!token("s3 cret").unwrap_err().to_string().contains("s3"));
    }
}
