//! The AWS settings of the environment, read once at start into a value.
//!
//! Two sources of credentials are known: IAM roles for service accounts (`AWS_ROLE_ARN` with
//! `AWS_WEB_IDENTITY_TOKEN_FILE`), which win where both are set because they are short-lived, and
//! the static variables for local use. Profiles, SSO and the instance metadata service are not.
//!
//! Invariant: half a setting is an error, never a silent fallback to the other source.

use std::path::PathBuf;

use http::Uri;
use thiserror::Error;

use super::credentials::{BadCredentials, Credentials};
use super::region::{NameError, Region};

/// Session name sent to STS when the environment names none. It shows up in `CloudTrail`.
const DEFAULT_SESSION_NAME: &str = "workspace-proxy";
/// Longest role ARN (STS API reference, `AssumeRoleWithWebIdentity`).
const MAX_ROLE_ARN: usize = 2048;

/// What the proxy needs to sign for AWS.
#[derive(Clone, Debug)]
pub struct AwsConfig {
    /// The region of the Bedrock route and of STS.
    pub region: Region,
    /// Where credentials come from.
    pub identity: Identity,
}

/// A source of credentials.
#[derive(Clone, Debug)]
pub enum Identity {
    /// Temporary credentials from STS for a Kubernetes service account.
    WebIdentity(WebIdentity),
    /// Keys from the environment; they are never refreshed.
    Static(Credentials),
}

/// The parameters of `AssumeRoleWithWebIdentity`.
#[derive(Clone, Debug)]
pub struct WebIdentity {
    /// The role to assume.
    pub role_arn: String,
    /// The file that kubelet rewrites; read anew for every call.
    pub token_file: PathBuf,
    /// 2 to 64 characters that STS accepts.
    pub session_name: String,
    /// Where STS is.
    pub endpoint: Uri,
}

/// A setting that is there and cannot be used. Values of secrets are not shown.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EnvironmentError {
    /// Two variables belong together and one is missing.
    #[error("{present} is set but {missing} is not; set both or neither")]
    Half {
        /// The variable that is there.
        present: &'static str,
        /// The variable that is not.
        missing: &'static str,
    },
    /// Credentials are there, the region is not.
    #[error("AWS credentials are configured but no region; set AWS_REGION")]
    NoRegion,
    /// The region is malformed.
    #[error("AWS_REGION or AWS_DEFAULT_REGION: {0}")]
    Region(#[from] NameError),
    /// The role is no ARN.
    #[error("AWS_ROLE_ARN is not the ARN of a role: {0:?}; write arn:aws:iam::ACCOUNT:role/NAME")]
    RoleArn(String),
    /// An endpoint override is no http or https URL.
    #[error("{name} is not an http or https URL without query: {value:?}")]
    Endpoint {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// The static credentials cannot be sent.
    #[error("static AWS credentials in the environment: {0}")]
    Credentials(#[from] BadCredentials),
}

/// The settings that `variable` finds, `None` where AWS is not configured. An empty variable counts
/// as absent, as in the AWS SDKs.
///
/// # Errors
/// A setting is incomplete or malformed.
pub fn read<F>(variable: F) -> Result<Option<AwsConfig>, EnvironmentError>
where
    F: Fn(&str) -> Option<String>,
{
    let variables = Variables(&|name| variable(name).filter(|value| !value.trim().is_empty()));
    let Some(identity) = variables.identity()? else { return Ok(None) };
    let region = variables.region()?.ok_or(EnvironmentError::NoRegion)?;
    Ok(Some(AwsConfig { region, identity }))
}

/// The region of the environment, for routes that are configured without credentials of their own.
///
/// # Errors
/// The region is malformed.
pub fn region<F>(variable: F) -> Result<Option<Region>, EnvironmentError>
where
    F: Fn(&str) -> Option<String>,
{
    Variables(&|name| variable(name).filter(|value| !value.trim().is_empty())).region()
}

struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    fn identity(&self) -> Result<Option<Identity>, EnvironmentError> {
        match self.pair("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE")? {
            Some((role_arn, token_file)) => self.web_identity(role_arn, token_file).map(Some),
            None => Ok(self.static_keys()?.map(Identity::Static)),
        }
    }

    fn web_identity(
        &self,
        role_arn: String,
        token_file: String,
    ) -> Result<Identity, EnvironmentError> {
        let shaped = role_arn.starts_with("arn:")
            && role_arn.contains(":role/")
            && role_arn.len() <= MAX_ROLE_ARN
            && role_arn.bytes().all(|b| b.is_ascii_graphic());
        if !shaped {
            return Err(EnvironmentError::RoleArn(role_arn.chars().take(200).collect()));
        }
        let region = self.region()?.ok_or(EnvironmentError::NoRegion)?;
        let name = (self.0)("AWS_ROLE_SESSION_NAME");
        Ok(Identity::WebIdentity(WebIdentity {
            role_arn,
            token_file: token_file.into(),
            session_name: session_name(name.as_deref().unwrap_or(DEFAULT_SESSION_NAME)),
            endpoint: self.sts_endpoint(&region)?,
        }))
    }

    fn static_keys(&self) -> Result<Option<Credentials>, EnvironmentError> {
        let Some((id, secret)) = self.pair("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")? else {
            return Ok(None);
        };
        let token = (self.0)("AWS_SESSION_TOKEN").map(|token| token.trim().to_owned());
        let credentials =
            Credentials::new(id.trim().to_owned(), secret.trim().to_owned(), token, None)?;
        Ok(Some(credentials))
    }

    fn pair(
        &self,
        first: &'static str,
        second: &'static str,
    ) -> Result<Option<(String, String)>, EnvironmentError> {
        match ((self.0)(first), (self.0)(second)) {
            (Some(one), Some(two)) => Ok(Some((one, two))),
            (Some(_), None) => Err(EnvironmentError::Half { present: first, missing: second }),
            (None, Some(_)) => Err(EnvironmentError::Half { present: second, missing: first }),
            (None, None) => Ok(None),
        }
    }

    fn region(&self) -> Result<Option<Region>, EnvironmentError> {
        let text = (self.0)("AWS_REGION").or_else(|| (self.0)("AWS_DEFAULT_REGION"));
        Ok(text.map(|text| Region::parse(text.trim())).transpose()?)
    }

    /// An override wins; else the regional endpoint, as all SDKs choose by default since 2025.
    fn sts_endpoint(&self, region: &Region) -> Result<Uri, EnvironmentError> {
        for name in ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"] {
            if let Some(value) = (self.0)(name) {
                return endpoint_override(name, &value);
            }
        }
        let host = sts_host(region, self.flag("AWS_USE_FIPS_ENDPOINT"), self.dual_stack());
        let url = format!("https://{host}/");
        url.parse()
            .map_err(|_unlikely| EnvironmentError::Endpoint { name: "AWS_REGION", value: url })
    }

    fn flag(&self, name: &str) -> bool {
        (self.0)(name).is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
    }

    fn dual_stack(&self) -> AddressFamilies {
        if self.flag("AWS_USE_DUALSTACK_ENDPOINT") {
            AddressFamilies::Dual
        } else {
            AddressFamilies::Ipv4
        }
    }
}

#[derive(Clone, Copy)]
enum AddressFamilies {
    Ipv4,
    Dual,
}

fn sts_host(region: &Region, fips: bool, families: AddressFamilies) -> String {
    let label = if fips && !region.is_gov_cloud() { "sts-fips" } else { "sts" };
    let suffix = match families {
        AddressFamilies::Ipv4 => region.dns_suffix(),
        AddressFamilies::Dual => region.dual_stack_suffix(),
    };
    format!("{label}.{region}.{suffix}")
}

fn endpoint_override(name: &'static str, value: &str) -> Result<Uri, EnvironmentError> {
    let text = value.trim();
    let text = if text.ends_with('/') { text.to_owned() } else { format!("{text}/") };
    let usable = |uri: &Uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.query().is_none()
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
    };
    text.parse()
        .ok()
        .filter(usable)
        .ok_or_else(|| EnvironmentError::Endpoint { name, value: without_userinfo(value) })
}

/// A password in a URL has no business in an error message.
fn without_userinfo(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => "(a URL with user information)".to_owned(),
        _ => url.chars().take(200).collect(),
    }
}

/// STS takes 2 to 64 letters, digits and `_+=,.@-`; all else becomes a hyphen.
fn session_name(wanted: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    let mut name: String =
        wanted.trim().chars().map(|c| if allowed(c) { c } else { '-' }).take(64).collect();
    while name.len() < 2 {
        name.push('-');
    }
    name
}

#[cfg(test)]
mod tests;
