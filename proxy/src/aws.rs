//! AWS requests signed with the proxy's own credentials.
//!
//! Order of a signed request: the client's proof is stripped, the body is taken in, the credentials
//! of the moment are looked up, the head is signed. What is allowed has been decided before; nothing
//! here opens a connection for workspace traffic.
//!
//! Invariant: [`Aws::sign`] answers with a signed request or with a refusal, never with an unsigned
//! request.

pub mod bedrock;
pub mod cache;
pub mod canonical;
pub mod credentials;
pub mod denial;
pub mod environment;
pub mod payload;
pub mod region;
pub mod room;
pub mod schedule;
pub mod sign;
pub mod sts;

use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, Request, StatusCode};
use workspace_common::body::Body;
use workspace_common::drain::Drain;

use self::bedrock::BedrockTarget;
use self::cache::CredentialCache;
use self::environment::{AwsConfig, Identity};
use self::payload::Payload;
use self::region::Region;
use self::room::BodyRoom;
use self::sign::SignError;
pub use self::sign::SigningTarget;
use self::sts::Sts;
use self::sts::transport::Transport;
use crate::refusal::Refusal;

/// Error names by which AWS says that credentials are over or unknown.
const STALE: [&str; 4] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
];

/// Signs requests for AWS. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Aws(Arc<Signer>);

#[derive(Debug)]
struct Signer {
    region: Region,
    credentials: CredentialCache,
    bodies: BodyRoom,
}

impl Aws {
    /// Starts with `config`; credentials that expire are refreshed by a task of `drain`. Bodies that
    /// have to be hashed may have `body_limit` bytes.
    #[must_use]
    pub fn start(
        config: AwsConfig,
        transport: Transport,
        body_limit: usize,
        drain: &Drain,
    ) -> Self {
        let credentials = match config.identity {
            Identity::Static(credentials) => CredentialCache::fixed(credentials),
            Identity::WebIdentity(identity) => {
                let (cache, refresher) = CredentialCache::refreshed(Sts::new(identity, transport));
                drain.spawn_background(refresher.run());
                cache
            }
        };
        let bodies = BodyRoom::new(body_limit);
        Self(Arc::new(Signer { region: config.region, credentials, bodies }))
    }

    /// The region of the Bedrock route.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.0.region
    }

    /// The credentials, for readiness and metrics.
    #[must_use]
    pub fn credentials(&self) -> &CredentialCache {
        &self.0.credentials
    }

    /// The AWS endpoint for a path of the Bedrock route.
    #[must_use]
    pub fn bedrock_target(&self, path: &str) -> Option<BedrockTarget> {
        BedrockTarget::of_path(path, &self.0.region)
    }

    /// Signs `request` for `target`. The URI keeps its scheme and authority if it has any; `Host` is
    /// the target's.
    ///
    /// # Errors
    /// The body is too large or broken, the path has two readings, the form of the request cannot be
    /// signed, or there are no credentials.
    pub async fn sign(
        &self,
        request: Request<Body>,
        target: &SigningTarget,
    ) -> Result<Request<Body>, Refusal> {
        // Asked twice: here so that no body is read in vain, below so that the signature is made of
        // what is valid then.
        sign::check_url(request.uri(), &target.service)
            .map_err(|_two_readings| Refusal::BadPath)?;
        self.current().await?;
        let (mut parts, content) = request.into_parts();
        let payload =
            Payload::take(&parts.headers, content, &target.service, &self.0.bodies).await?;
        let credentials = self.current().await?;
        sign::sign(&mut parts, &payload, target, &credentials, SystemTime::now())
            .map_err(|error| refusal_of(&error))?;
        Ok(Request::from_parts(parts, payload.into_body()))
    }

    /// Looks at the head of an upstream's answer for the complaint that credentials are over, and
    /// has them refreshed if so. The answer itself is passed on unchanged.
    pub fn observe(&self, status: StatusCode, headers: &HeaderMap) {
        let suspicious = matches!(status, StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN);
        if suspicious
            && headers.get("x-amzn-errortype").is_some_and(|kind| is_stale(kind.as_bytes()))
        {
            self.0.credentials.rejected_by_upstream();
        }
    }

    async fn current(&self) -> Result<Arc<credentials::Credentials>, Refusal> {
        self.0.credentials.current().await.map_err(|_none| Refusal::CredentialsUnavailable)
    }
}

/// The name may be followed by a colon and the URL of a schema.
fn is_stale(kind: &[u8]) -> bool {
    let name = kind.split(|byte| *byte == b':').next().unwrap_or(kind);
    STALE.iter().any(|stale| stale.as_bytes() == name)
}

fn refusal_of(error: &SignError) -> Refusal {
    tracing::debug!(%error, "request not signed");
    match error {
        SignError::Url(_) => Refusal::BadPath,
        SignError::HeaderText(_)
        | SignError::Uri(_)
        | SignError::UriParts(_)
        | SignError::HeaderValue(_)
        | SignError::HeaderName(_)
        | SignError::Parameters(_)
        | SignError::Signing(_) => Refusal::AwsUnsupported,
    }
}

#[cfg(test)]
mod tests;
