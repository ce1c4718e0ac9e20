//! Another proxy on the way out: what a company's network has in place of a route to the internet.
//!
//! With one, nothing is dialled but that proxy, apart from what the operator excepts. It gets a
//! CONNECT for every destination, for plain HTTP too, so that what passes through it is a tunnel and
//! no request, credential or header of a workspace is ever for it to read.

pub mod address;
pub mod answer;
pub mod auth;
pub mod dial;
pub mod handshake;
pub mod secure;

use serde::Deserialize;
use workspace_common::secret::Secret;

use crate::host::{Host, HostPort, Scheme};
use crate::policy::pattern::HostPattern;
use crate::refusal::Refusal;
use crate::upstream::via::address::ProxyAddress;
use crate::upstream::via::auth::AuthFile;

/// Who looks names up when there is an upstream proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Names {
    /// The upstream proxy gets the name. The address guard sees literal addresses only.
    #[default]
    There,
    /// This proxy looks the name up, judges its addresses, and sends one of those.
    Here,
}

/// What is said about an upstream proxy, by the policy file or by flags.
#[derive(Clone, Debug, Default)]
pub struct ViaSettings {
    /// Where it is; none where there is none.
    pub proxy: Option<ProxyAddress>,
    /// What is dialled directly all the same.
    pub bypass: Vec<HostPattern>,
    /// Who looks names up; by default the upstream proxy.
    pub names: Option<Names>,
}

impl ViaSettings {
    /// These with `file` beneath: what is said here wins, exceptions add up.
    #[must_use]
    pub fn over(&self, file: &Self) -> Self {
        Self {
            proxy: self.proxy.clone().or_else(|| file.proxy.clone()),
            bypass: [self.bypass.as_slice(), &file.bypass].concat(),
            names: self.names.or(file.names),
        }
    }
}

/// The upstream proxy and when it is used.
#[derive(Debug)]
pub struct Via {
    proxy: ProxyAddress,
    auth: Option<AuthFile>,
    bypass: Vec<HostPattern>,
    names: Names,
}

impl Via {
    /// The upstream proxy that is configured, if one is.
    #[must_use]
    pub fn configured(settings: ViaSettings, auth: Option<AuthFile>) -> Option<Self> {
        let ViaSettings { proxy, bypass, names } = settings;
        Some(Self { proxy: proxy?, auth, bypass, names: names.unwrap_or_default() })
    }

    /// Where it is.
    #[must_use]
    pub const fn at(&self) -> &HostPort {
        self.proxy.at()
    }

    /// How it is spoken to.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.proxy.scheme()
    }

    /// Whether a connection to the host leads through it.
    #[must_use]
    pub fn carries(&self, host: &Host) -> bool {
        !self.bypass.iter().any(|pattern| pattern.matches(host))
    }

    /// Who looks names up.
    #[must_use]
    pub const fn names(&self) -> Names {
        self.names
    }

    /// The value of `Proxy-Authorization`, read anew each time, so that a rotated password is used
    /// from the next connection on.
    ///
    /// # Errors
    /// [`Refusal::CredentialsUnavailable`] when the file cannot be used now.
    pub async fn authorization(&self) -> Result<Option<Secret<String>>, Refusal> {
        let Some(file) = self.auth.clone() else { return Ok(None) };
        let reading = tokio::task::spawn_blocking(move || file.read());
        match reading.await {
            Ok(Ok(value)) => Ok(Some(value)),
            Ok(Err(error)) => {
                tracing::warn!(%error, "no credential for the upstream proxy");
                Err(Refusal::CredentialsUnavailable)
            }
            Err(_panicked) => Err(Refusal::CredentialsUnavailable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(proxy: Option<&str>, bypass: &[&str], names: Option<Names>) -> ViaSettings {
        let bypass = bypass.iter().map(|text| text.parse().unwrap()).collect();
        ViaSettings { proxy: proxy.map(|url| url.parse().unwrap()), bypass, names }
    }

    #[test]
    fn flags_win_over_the_file_and_exceptions_add_up() {
        let file = settings(Some("http://file.test:1"), &["a.test"], Some(Names::Here));
        let flags = settings(Some("http://flag.test:2"), &["**.b.test", "10.0.0.0/8"], None);
        let via = Via::configured(flags.over(&file), None).unwrap();
        assert_eq!(via.at().to_string(), "flag.test:2");
        assert_eq!(via.names(), Names::Here);
        for (host, carried) in [
            ("a.test", false),
            ("x.a.test", true),
            ("b.test", false),
            ("x.b.test", false),
            ("10.1.2.3", false),
            ("192.0.2.1", true),
        ] {
            assert_eq!(via.carries(&Host::parse(host).unwrap()), carried, "{host}");
        }
        assert!(Via::configured(settings(None, &["a.test"], None), None).is_none());
    }
}
