//! Where an upstream proxy is, as its operator writes it.

use std::str::FromStr;

use thiserror::Error;

use crate::host::{AuthorityError, HostPort};

/// Host and port of an upstream proxy that is spoken to in clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyAddress(HostPort);

/// Why a text is no address of an upstream proxy. Never shows the text: there may be a password in
/// it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ProxyAddressError {
    /// Another scheme than `http`, or none.
    #[error("must be http://HOST:PORT; other kinds of proxies are not spoken to")]
    Scheme,
    /// `http://user:password@…`.
    #[error("must not hold a user name or password; put them into --upstream-proxy-auth-file")]
    Userinfo,
    /// A path, query or fragment.
    #[error("must be http://HOST:PORT without a path")]
    Path,
    /// Host or port are missing or malformed.
    #[error("must be http://HOST:PORT: {0}")]
    Authority(AuthorityError),
}

impl ProxyAddress {
    /// Host and port.
    #[must_use]
    pub const fn at(&self) -> &HostPort {
        &self.0
    }
}

impl FromStr for ProxyAddress {
    type Err = ProxyAddressError;

    fn from_str(text: &str) -> Result<Self, ProxyAddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(ProxyAddressError::Scheme)?;
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(ProxyAddressError::Scheme);
        }
        if rest.contains('@') {
            return Err(ProxyAddressError::Userinfo);
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err(ProxyAddressError::Path);
        }
        // The port that a proxy has by default differs from program to program.
        HostPort::parse_authority(authority, None).map(Self).map_err(ProxyAddressError::Authority)
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
        assert!("http://[2001:db8::1]:3128".parse::<ProxyAddress>().is_ok());
        for (text, problem) in [
            ("proxy.test:3128", "must be http://HOST:PORT;"),
            ("socks5://proxy.test:1080", "other kinds"),
            ("https://proxy.test:3128", "other kinds"),
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
