//! Signing one request with Signature Version 4. No I/O; credentials and clock are arguments.
//!
//! What a client sent as its own proof is removed first, then exactly the headers that AWS needs are
//! signed: `host`, `content-type`, `content-md5` and every `x-amz-*`. The AWS crate signs whatever it
//! is given and reads URLs its own way, so it is given only what cannot be read in two ways.
//!
//! Invariant: after [`sign`] the head carries one `Authorization`, ours, or an error was returned.

use std::time::SystemTime;

use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningError,
    SigningInstructions, SigningSettings, UriPathNormalizationMode,
};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use http::header::{
    self, HeaderMap, HeaderName, HeaderValue, InvalidHeaderName, InvalidHeaderValue,
};
use http::request::Parts;
use http::uri::{InvalidUri, InvalidUriParts, PathAndQuery};
use http::{Uri, Version};
use thiserror::Error;

use super::canonical::{self, CanonicalError};
use super::credentials::Credentials;
use super::payload::Payload;
use super::region::{Region, Service};
use crate::credential;

/// The provider name that the AWS crate wants; it goes nowhere.
const PROVIDER: &str = "workspace-proxy";

/// Headers of a client's own signature, and what proxies add. None of them leaves.
const STRIPPED: [HeaderName; 12] = [
    header::DATE,
    header::EXPECT,
    header::FORWARDED,
    header::TRANSFER_ENCODING,
    header::VIA,
    HeaderName::from_static("x-amz-date"),
    HeaderName::from_static("x-amz-region-set"),
    HeaderName::from_static("x-amz-s3session-token"),
    HeaderName::from_static("x-amz-security-token"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
];

/// For whom a signature is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningTarget {
    /// The `Host` header that is sent: the upstream's host, with the port unless it is the default.
    pub authority: String,
    /// The region of the credential scope.
    pub region: Region,
    /// The signing name of the service.
    pub service: Service,
}

/// Why a request cannot be signed. Shows no header value.
#[derive(Debug, Error)]
pub enum SignError {
    /// The path or query has more than one reading.
    #[error("the URL cannot be signed: {0}")]
    Url(#[from] CanonicalError),
    /// A header to be signed is not text.
    #[error("the header {0} is not UTF-8 text")]
    HeaderText(HeaderName),
    /// The canonical URL is no URL.
    #[error("the canonical URL is not valid: {0}")]
    Uri(#[from] InvalidUri),
    /// The canonical path cannot be put into the request.
    #[error("the canonical path does not fit the request: {0}")]
    UriParts(#[from] InvalidUriParts),
    /// The upstream's authority cannot stand in a header.
    #[error("a header of the signature cannot be sent")]
    HeaderValue(#[from] InvalidHeaderValue),
    /// The AWS crate made a header name that is none.
    #[error("a header of the signature has no valid name")]
    HeaderName(#[from] InvalidHeaderName),
    /// The signing parameters are incomplete.
    #[error("signing parameters: {0}")]
    Parameters(#[from] v4::signing_params::BuildError),
    /// The AWS crate refused.
    #[error("signing: {0}")]
    Signing(#[from] SigningError),
}

/// Removes every proof of identity the client sent, and what proxies in between added.
pub fn strip(headers: &mut HeaderMap) {
    credential::strip_client_credentials(headers, &STRIPPED);
}

/// Says whether a URL can be signed at all, before anything is read or asked for.
///
/// # Errors
/// The path or query has more than one reading.
pub fn check_url(uri: &Uri, service: &Service) -> Result<(), CanonicalError> {
    canonical_path_and_query(uri, service).map(|_signable| ())
}

/// Signs the head of a request whose body is `payload`.
///
/// # Errors
/// The request cannot be signed; the head may have been changed and is not to be sent.
pub fn sign(
    parts: &mut Parts,
    payload: &Payload,
    target: &SigningTarget,
    credentials: &Credentials,
    now: SystemTime,
) -> Result<(), SignError> {
    strip(&mut parts.headers);
    payload.describe(parts);
    parts.version = Version::HTTP_11;
    parts.headers.insert(header::HOST, HeaderValue::from_str(&target.authority)?);
    let path_and_query = canonical_path_and_query(&parts.uri, &target.service)?;
    let instructions = instructions(parts, &path_and_query, payload, target, credentials, now)?;
    apply(instructions, &mut parts.headers)?;
    replace_path(&mut parts.uri, &path_and_query)
}

fn canonical_path_and_query(uri: &Uri, service: &Service) -> Result<String, CanonicalError> {
    let path = canonical::path(uri.path(), service)?;
    let query = uri.query().map(canonical::query).transpose()?.flatten();
    Ok(match query {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    })
}

#[expect(clippy::too_many_arguments, reason = "the inputs of a signature, each of its own type")]
fn instructions(
    parts: &Parts,
    path_and_query: &str,
    payload: &Payload,
    target: &SigningTarget,
    credentials: &Credentials,
    now: SystemTime,
) -> Result<SigningInstructions, SignError> {
    let identity = identity(credentials);
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(target.region.as_str())
        .name(target.service.as_str())
        .time(now)
        .settings(settings(&target.service))
        .build()?
        .into();
    let url = format!("https://{}{path_and_query}", target.authority);
    let headers = signed_headers(&parts.headers)?;
    let body = SignableBody::Precomputed(payload.digest().to_owned());
    let request = SignableRequest::new(parts.method.as_str(), url, headers.into_iter(), body)?;
    Ok(aws_sigv4::http_request::sign(request, &params)?.into_parts().0)
}

fn settings(service: &Service) -> SigningSettings {
    let mut settings = SigningSettings::default();
    if service.is_s3_family() {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    settings
}

fn identity(credentials: &Credentials) -> Identity {
    aws_credential_types::Credentials::new(
        credentials.access_key_id().expose().as_str(),
        credentials.secret_access_key().expose().as_str(),
        credentials.session_token().map(|token| token.expose().clone()),
        None,
        PROVIDER,
    )
    .into()
}

/// The headers that are signed: what AWS wants signed and nothing that may change on the way.
fn signed_headers(headers: &HeaderMap) -> Result<Vec<(&str, &str)>, SignError> {
    headers
        .iter()
        .filter(|(name, _)| is_signed(name))
        .map(|(name, value)| {
            let text = std::str::from_utf8(value.as_bytes())
                .map_err(|_binary| SignError::HeaderText(name.clone()))?;
            Ok((name.as_str(), text))
        })
        .collect()
}

fn is_signed(name: &HeaderName) -> bool {
    matches!(name.as_str(), "host" | "content-type" | "content-md5")
        || name.as_str().starts_with("x-amz-")
}

fn apply(instructions: SigningInstructions, headers: &mut HeaderMap) -> Result<(), SignError> {
    for header in instructions.into_parts().0 {
        let name = HeaderName::from_bytes(header.name().as_bytes())?;
        let mut value = HeaderValue::from_str(header.value())?;
        value.set_sensitive(is_sensitive(&name) || header.sensitive());
        headers.insert(name, value);
    }
    Ok(())
}

fn is_sensitive(name: &HeaderName) -> bool {
    *name == header::AUTHORIZATION || name.as_str() == "x-amz-security-token"
}

fn replace_path(uri: &mut Uri, path_and_query: &str) -> Result<(), SignError> {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path_and_query.parse::<PathAndQuery>()?);
    *uri = Uri::from_parts(parts)?;
    Ok(())
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
