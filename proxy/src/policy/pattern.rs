//! Host patterns of allow and deny rules.
//!
//! The syntax is deliberately poor: an exact host, `*.name` (anything below), `**.name` (the name
//! and anything below), or an address range. No other wildcard exists, because every other one has
//! been read wrongly by somebody.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

use crate::host::{Host, HostError};

/// Which hosts a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// Exactly this host.
    Exact(Host),
    /// Every name below this one, at any depth, but not the name itself.
    Below(Host),
    /// The name and every name below it.
    AtOrBelow(Host),
    /// Every address literal in the range. Names never match it, whatever they resolve to.
    Range(IpNet),
}

/// Why a text is no pattern.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PatternError {
    /// Not a host.
    #[error("{0}; write a host name, `*.name`, `**.name`, an address or a CIDR range")]
    Host(#[from] HostError),
    /// `*.192.0.2.1`.
    #[error("a wildcard needs a name, not an address")]
    WildcardOnAddress,
    /// A URL or a part of one.
    #[error("this is a URL or has a path; write the host alone")]
    Url,
    /// `*`, `*.com`, `*.co.uk`, `0.0.0.0/0`.
    #[error("the pattern is too broad: it would take in hosts of unrelated owners")]
    TooBroad,
}

impl HostPattern {
    /// Whether the host is in the set.
    #[must_use]
    pub fn matches(&self, host: &Host) -> bool {
        match self {
            Self::Exact(exact) => exact == host,
            Self::Below(base) => is_below(host, base),
            Self::AtOrBelow(base) => base == host || is_below(host, base),
            Self::Range(net) => host.ip().is_some_and(|ip| net.contains(&ip)),
        }
    }

    /// Refuses patterns that span unrelated owners. For allow rules; a deny rule may be as broad as
    /// it likes.
    ///
    /// # Errors
    /// [`PatternError::TooBroad`].
    pub fn narrow(self) -> Result<Self, PatternError> {
        let broad = match &self {
            Self::Exact(_) => false,
            Self::Below(base) | Self::AtOrBelow(base) => base.name().is_none_or(is_public_suffix),
            Self::Range(IpNet::V4(net)) => net.prefix_len() < 8,
            Self::Range(IpNet::V6(net)) => net.prefix_len() < 16,
        };
        if broad { Err(PatternError::TooBroad) } else { Ok(self) }
    }

    /// The predecessor's meaning of a list entry: a plain name stands for itself and all its
    /// subdomains.
    #[must_use]
    pub fn widened(self) -> Self {
        match self {
            Self::Exact(host) if !host.is_ip() => Self::AtOrBelow(host),
            other => other,
        }
    }
}

impl FromStr for HostPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text == "*" || text == "**" {
            return Err(PatternError::TooBroad);
        }
        if let Ok(net) = text.parse::<IpNet>() {
            return Ok(Self::Range(net.trunc()));
        }
        if text.contains(['/', '@', '?', '#']) {
            return Err(PatternError::Url);
        }
        if let Some(base) = text.strip_prefix("**.") {
            return Ok(Self::AtOrBelow(wildcard_base(base)?));
        }
        if let Some(base) = text.strip_prefix("*.") {
            return Ok(Self::Below(wildcard_base(base)?));
        }
        Ok(Self::Exact(Host::parse(text)?))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => host.fmt(f),
            Self::Below(base) => write!(f, "*.{base}"),
            Self::AtOrBelow(base) => write!(f, "**.{base}"),
            Self::Range(net) => net.fmt(f),
        }
    }
}

fn wildcard_base(text: &str) -> Result<Host, PatternError> {
    let host = Host::parse(text)?;
    if host.is_ip() {
        return Err(PatternError::WildcardOnAddress);
    }
    Ok(host)
}

fn is_below(host: &Host, base: &Host) -> bool {
    let (Some(name), Some(base)) = (host.name(), base.name()) else {
        return false;
    };
    name.strip_suffix(base).is_some_and(|front| front.ends_with('.'))
}

/// Second-level labels under which country registries sell names, as in `co.uk` and `com.au`.
const REGISTRY_LABELS: [&str; 14] =
    ["ac", "co", "com", "edu", "gob", "gouv", "gov", "go", "ltd", "ne", "net", "nom", "or", "org"];

/// A rule of thumb in place of the public suffix list (which would be out of date in a binary): a
/// single label, or a registry label under a two-letter country domain.
fn is_public_suffix(name: &str) -> bool {
    match name.split_once('.') {
        None => true,
        Some((second, top)) => top.len() == 2 && REGISTRY_LABELS.contains(&second),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_pattern_matches_what_its_syntax_says() {
        for (text, host, expected) in [
            ("cdn.example", "cdn.example", true),
            ("cdn.example", "files.cdn.example", false),
            ("*.cdn.example", "cdn.example", false),
            ("*.cdn.example", "files.cdn.example", true),
            ("*.cdn.example", "a.b.cdn.example", true),
            ("*.cdn.example", "evilcdn.example", false),
            ("*.cdn.example", "cdn.example.evil.test", false),
            ("*.cdn.example", "10.0.0.1", false),
            ("**.cdn.example", "cdn.example", true),
            ("**.cdn.example", "a.b.cdn.example", true),
            ("**.cdn.example", "xcdn.example", false),
            ("203.0.113.0/24", "203.0.113.9", true),
            ("203.0.113.0/24", "203.0.114.9", false),
            ("203.0.113.0/24", "name.example", false),
        ] {
            let host = Host::parse(host).unwrap();
            assert_eq!(pattern(text).matches(&host), expected, "{text} {host}");
        }
    }

    #[test]
    fn every_other_wildcard_is_refused() {
        for text in [
            "",
            "*.",
            ".",
            "..",
            "[a-z]*.example",
            "{a,b}.example",
            "al?owed.example",
            "a\\.example",
            "!x.example",
            "a.*.example",
            "*a.example",
            ".example.com",
            "*.*.example.com",
            "https://allowed.example/simple",
            "allowed.example/simple",
            "user@allowed.example",
            "b\u{fc}cher.test",
            "*.192.0.2.1",
            "allowed.example:443",
        ] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn allow_patterns_must_not_span_owners() {
        for text in ["*.com", "**.test", "*.co.uk", "**.com.au", "0.0.0.0/0", "::/0"] {
            assert_eq!(pattern(text).narrow(), Err(PatternError::TooBroad), "{text}");
        }
        for text in ["*.example.com", "localhost", "*.example.co.uk", "10.0.0.0/8"] {
            assert!(pattern(text).narrow().is_ok(), "{text}");
        }
        assert_eq!("*".parse::<HostPattern>(), Err(PatternError::TooBroad));
    }
}
