//! Entries of the allow lists that come in flags and variables: `PATTERN` or `PATTERN:PORT`.

use std::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

use crate::host::{Host, parse_port};
use crate::policy::pattern::{HostPattern, PatternError};

/// A pattern with the ports it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// Which hosts.
    pub pattern: HostPattern,
    /// Which ports.
    pub ports: Vec<u16>,
    has_port: bool,
}

/// Why a text is no list entry.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ListError {
    /// The host part is at fault.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The port is not 1 to 65535.
    #[error("the port must be 1 to 65535 in plain digits")]
    BadPort,
}

impl ListEntry {
    /// The predecessor's reading: a name stands for itself and everything below it, and without a
    /// port both web ports are meant.
    #[must_use]
    pub fn as_predecessor(self) -> Self {
        let ports = if self.has_port { self.ports } else { vec![443, 80] };
        Self { pattern: self.pattern.widened(), ports, has_port: self.has_port }
    }
}

impl FromStr for ListEntry {
    type Err = ListError;

    fn from_str(text: &str) -> Result<Self, ListError> {
        let (pattern, port) = split(text);
        let ports = match port {
            Some(digits) => vec![parse_port(digits).ok_or(ListError::BadPort)?],
            None => vec![443],
        };
        Ok(Self { pattern: pattern.parse()?, ports, has_port: port.is_some() })
    }
}

/// IPv6 wants brackets before a port, as in a URL; a bare range or address has none. What looks
/// like a URL is left whole, so that the error names it as one.
fn split(text: &str) -> (&str, Option<&str>) {
    if text.parse::<IpNet>().is_ok() || Host::parse(text).is_ok() || text.contains("://") {
        return (text, None);
    }
    match text.rsplit_once(':') {
        Some((pattern, port)) => (pattern, Some(port)),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_pattern_with_an_optional_port() {
        for (text, pattern, ports) in [
            ("Allowed.example.", "allowed.example", &[443][..]),
            ("*.cdn.example:8443", "*.cdn.example", &[8443]),
            ("203.0.113.0/24", "203.0.113.0/24", &[443]),
            ("203.0.113.0/24:80", "203.0.113.0/24", &[80]),
            ("[2001:db8::1]:80", "[2001:db8::1]", &[80]),
            ("2001:db8::/32", "2001:db8::/32", &[443]),
        ] {
            let entry: ListEntry = text.parse().unwrap();
            assert_eq!(entry.pattern.to_string(), pattern, "{text}");
            assert_eq!(entry.ports, ports, "{text}");
        }
    }

    #[test]
    fn the_predecessors_entry_takes_in_subdomains_and_both_web_ports() {
        let entry: ListEntry = "files.example".parse().unwrap();
        let entry = entry.as_predecessor();
        assert_eq!(entry.pattern.to_string(), "**.files.example");
        assert_eq!(entry.ports, [443, 80]);
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for text in [
            "allowed.example:0",
            "allowed.example:",
            "allowed.example:https",
            "https://allowed.example",
            "https://allowed.example:443/simple",
            "u@allowed.example:443",
            "127.1",
        ] {
            assert!(text.parse::<ListEntry>().is_err(), "{text}");
        }
    }
}
