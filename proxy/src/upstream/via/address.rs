//! Where an upstream proxy is, as its operator writes it.

use std::str::FromStr;

use thiserror::Error;

use crate::host::{AuthorityError, HostPort, Scheme};

/// Where an upstream proxy is, and whether it is spoken to inside TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyAddress {
    scheme: Scheme,
    at: HostPort,
}

/// Why a text is no address of an upstream proxy. Never shows the text: there may be a password in
/// it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ProxyAddressError {
    /// Neither `http` nor `https`.
    #[error(
        "must be http://HOST:PORT or https://HOST:PORT; other kinds of proxies are not spoken to"
    )]
    Scheme,
    /// `http://user:password@…`.
    #[error("must not hold a user name or password; put them into --upstream-proxy-auth-file")]
    Userinfo,
    /// A path, query or fragment.
    #[error("must be a scheme, a host and a port, without a path")]
    Path,
    /// Host or port are missing or malformed.
    #[error("must be http://HOST:PORT or https://HOST:PORT: {0}")]
    Authority(AuthorityError),
}

impl ProxyAddress {
    /// Host and port.
    #[must_use]
    pub const fn at(&self) -> &HostPort {
        &self.at
    }

    /// How it is spoken to.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }
}

impl FromStr for ProxyAddress {
    type Err = ProxyAddressError;

    fn from_str(text: &str) -> Result<Self, ProxyAddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(ProxyAddressError::Scheme)?;
        let scheme: Scheme = scheme.parse().map_err(|_other| ProxyAddressError::Scheme)?;
        if rest.contains('@') {
            return Err(ProxyAddressError::Userinfo);
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err(ProxyAddressError::Path);
        }
        // The port that a proxy has by default differs from program to program.
        let at =
            HostPort::parse_authority(authority, None).map_err(ProxyAddressError::Authority)?;
        Ok(Self { scheme, at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_and_a_port_are_needed_and_nothing_else_is_taken() {
        for text in ["http://proxy.test:3128", "HTTP://PROXY.test:3128/"] {
            let address: ProxyAddress = text.parse().unwrap();
            assert_eq!(address.at().to_string(), "proxy.test:3128");
        }
        let secured: ProxyAddress = "https://[2001:db8::1]:3128".parse().unwrap();
        assert_eq!(secured.scheme(), Scheme::Https);
        for (text, problem) in [
            ("proxy.test:3128", "must be http://HOST:PORT"),
            ("socks5://proxy.test:1080", "other kinds"),
            ("http://proxy.test", "the port is missing"),
            ("http://me:hunter2@proxy.test:3128", "--upstream-proxy-auth-file"),
            ("http://proxy.test:3128/x", "without a path"),
            ("http://proxy.test:3128?x", "without a path"),
            ("http://:3128", "the host is empty"),
        ] {
            let error = text.parse::<ProxyAddress>().unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
