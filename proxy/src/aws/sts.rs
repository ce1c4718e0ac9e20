//! The one call to AWS STS that this proxy makes: `AssumeRoleWithWebIdentity`, unsigned, the token of
//! the service account being the proof.
//!
//! It is the proxy's own call and no workspace traffic: it passes no policy and no rule. Time and
//! size of the answer are bounded.
//!
//! Invariant: the token file is read anew for every call, since kubelet replaces it under our feet.

pub mod answer;
pub mod road;
pub mod transport;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderValue, Request, StatusCode, Uri, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use thiserror::Error;
use tokio::io::AsyncReadExt as _;
use workspace_common::body;
use workspace_common::secret::Secret;

use self::answer::AnswerError;
use self::transport::{Transport, TransportError};
use super::credentials::Credentials;
use super::environment::WebIdentity;
use super::schedule::Retry;

/// Longest web identity token (STS API reference).
const MAX_TOKEN: u64 = 20_000;
/// Time for the whole call, connecting included.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// What a form body leaves as it is (RFC 3986 unreserved).
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why no credentials were obtained.
#[derive(Debug, Error)]
pub enum StsError {
    /// The token file cannot be read.
    #[error("the web identity token file {path} cannot be read: {source}")]
    TokenFile {
        /// The path of `AWS_WEB_IDENTITY_TOKEN_FILE`.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The token file holds no token.
    #[error(
        "the web identity token file {0} holds no token: one line of visible ASCII is expected"
    )]
    TokenShape(PathBuf),
    /// The request could not be exchanged.
    #[error("STS at {endpoint}: {source}")]
    Transport {
        /// Where STS was sought.
        endpoint: Uri,
        /// What failed.
        source: TransportError,
    },
    /// The call took too long.
    #[error("STS at {0} did not answer within {CALL_TIMEOUT:?}")]
    Timeout(Uri),
    /// STS answered without credentials.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

impl StsError {
    /// How soon the call is worth repeating.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::TokenFile { .. }
            | Self::TokenShape(_)
            | Self::Transport { .. }
            | Self::Timeout(_) => Retry::Soon,
            Self::Answer(answer) => answer.retry(),
        }
    }
}

/// A client of STS for one identity.
#[derive(Debug)]
pub struct Sts {
    identity: WebIdentity,
    transport: Transport,
}

impl Sts {
    /// A client that assumes the role of `identity`.
    #[must_use]
    pub const fn new(identity: WebIdentity, transport: Transport) -> Self {
        Self { identity, transport }
    }

    /// Obtains credentials. When STS finds the token expired, the file is read again and the call
    /// repeated once: kubelet may have replaced it in between.
    ///
    /// # Errors
    /// No credentials were obtained.
    pub async fn assume_role(&self) -> Result<Credentials, StsError> {
        match self.call().await {
            Err(StsError::Answer(AnswerError::ExpiredToken)) => self.call().await,
            outcome => outcome,
        }
    }

    async fn call(&self) -> Result<Credentials, StsError> {
        let token = read_token(&self.identity.token_file).await?;
        let exchange = self.exchange(&token);
        let (status, content) = tokio::time::timeout(CALL_TIMEOUT, exchange)
            .await
            .map_err(|_elapsed| StsError::Timeout(self.identity.endpoint.clone()))??;
        Ok(answer::parse(status, content.expose())?)
    }

    async fn exchange(
        &self,
        token: &Secret<String>,
    ) -> Result<(StatusCode, Secret<Vec<u8>>), StsError> {
        let mut request = Request::post(self.identity.endpoint.clone())
            .body(body::full(self.form(token)))
            .map_err(|source| self.transport_error(TransportError::Request(source)))?;
        let headers = request.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8"),
        );
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/xml, text/xml"));
        self.transport.send(request).await.map_err(|source| self.transport_error(source))
    }

    fn form(&self, token: &Secret<String>) -> String {
        let parameters = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", &self.identity.role_arn),
            ("RoleSessionName", &self.identity.session_name),
            ("WebIdentityToken", token.expose()),
        ];
        let pairs =
            parameters.map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, FORM)));
        pairs.join("&")
    }

    fn transport_error(&self, source: TransportError) -> StsError {
        StsError::Transport { endpoint: self.identity.endpoint.clone(), source }
    }
}

/// Reads the token; surrounding white space, such as a final newline, is dropped.
async fn read_token(path: &Path) -> Result<Secret<String>, StsError> {
    let unreadable = |source| StsError::TokenFile { path: path.to_owned(), source };
    let shape = || StsError::TokenShape(path.to_owned());
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut text = Vec::new();
    file.take(MAX_TOKEN + 1).read_to_end(&mut text).await.map_err(unreadable)?;
    let text = Secret::new(text);
    let token = text.expose().trim_ascii();
    let length = u64::try_from(token.len()).unwrap_or(u64::MAX);
    if !(1..=MAX_TOKEN).contains(&length) || !token.iter().all(u8::is_ascii_graphic) {
        return Err(shape());
    }
    std::str::from_utf8(token).map(|text| Secret::new(text.to_owned())).map_err(|_unlikely| shape())
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
