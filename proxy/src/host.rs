//! Hosts and ports in their one canonical form.
//!
//! This is the only parser of host names, addresses and ports in the proxy: request targets, `Host`
//! headers, the policy file and rules documents all go through it. It does no lookup and knows no
//! policy.
//!
//! Invariant: two spellings of one destination become equal values here, and a spelling that some
//! resolver would read differently from us does not become a value at all.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use idna::uts46::{AsciiDenyList, Hyphens, Uts46};
use thiserror::Error;

/// Longest host name in its textual form without the trailing dot (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;
/// Longest label of a host name (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

/// A destination: a DNS name in lower case without trailing dot, or an IP address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(Form);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Form {
    Name(Arc<str>),
    Ip(IpAddr),
}

/// A host with the port to reach it at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// The canonical host.
    pub host: Host,
    /// The port, never zero.
    pub port: u16,
}

/// The two protocols that the proxy speaks to an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// HTTP in clear.
    Http,
    /// HTTP inside TLS.
    Https,
}

/// Why a text is no host.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HostError {
    /// Nothing was given.
    #[error("the host is empty")]
    Empty,
    /// More than 253 characters.
    #[error("the host name is longer than 253 characters")]
    TooLong,
    /// An empty label, one over 63 characters, or one that begins or ends with a hyphen.
    #[error("the host name has a label that is empty, too long or begins or ends with a hyphen")]
    BadLabel,
    /// A character outside letters, digits, hyphen, underscore and dot.
    #[error("the host name has a character that host names cannot have")]
    BadCharacter,
    /// An `xn--` label that does not decode to an international name.
    #[error("the host name has a malformed international (xn--) label")]
    BadALabel,
    /// A number that some resolvers read as an address, but no plain dotted quad.
    #[error("the host is a number, but not an IPv4 address of four plain decimal parts")]
    Numeric,
    /// Brackets without an IPv6 address inside, or with a zone.
    #[error("brackets must hold an IPv6 address without a zone")]
    BadIpv6,
}

/// Why a text is no `host:port`.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AuthorityError {
    /// A user name or password stands before the host.
    #[error("user information before the host is not accepted")]
    Userinfo,
    /// The host part does not parse.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A port is needed and missing.
    #[error("the port is missing")]
    MissingPort,
    /// The port is not 1 to 65535 in plain decimal digits.
    #[error("the port must be 1 to 65535 in plain digits, without sign or leading zero")]
    BadPort,
}

/// Why a text is no scheme the proxy speaks.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the scheme must be http or https")]
pub struct SchemeError;

impl Host {
    /// Parses a host as it stands in an authority: a name, a dotted quad, or IPv6 in brackets.
    ///
    /// # Errors
    /// Says which rule the text breaks. Nothing is repaired or guessed.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(HostError::BadIpv6)?;
            return parse_ipv6(inner);
        }
        parse_name_or_ipv4(text)
    }

    /// Whether this is an address and no name.
    #[must_use]
    pub fn is_ip(&self) -> bool {
        matches!(self.0, Form::Ip(_))
    }

    /// The address, when the host is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self.0 {
            Form::Ip(ip) => Some(ip),
            Form::Name(_) => None,
        }
    }

    /// The DNS name, when the host is one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match &self.0 {
            Form::Name(name) => Some(name),
            Form::Ip(_) => None,
        }
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        Self(Form::Ip(ip))
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        Self::parse(text)
    }
}

/// The form that an authority takes: IPv6 in brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Name(name) => f.write_str(name),
            Form::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Form::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

impl HostPort {
    /// Parses `host:port`, or `host` alone where `default_port` is given.
    ///
    /// # Errors
    /// Says whether user information, the host or the port is at fault.
    pub fn parse_authority(text: &str, default_port: Option<u16>) -> Result<Self, AuthorityError> {
        if text.contains('@') {
            return Err(AuthorityError::Userinfo);
        }
        let (host, port) = split_port(text)?;
        let port = match port {
            Some(digits) => parse_port(digits).ok_or(AuthorityError::BadPort)?,
            None => default_port.ok_or(AuthorityError::MissingPort)?,
        };
        let host = Host::parse(host)?;
        Ok(Self { host, port })
    }

    /// The authority to put into a `Host` header: without the port where it is the scheme's own.
    #[must_use]
    pub fn authority(&self, scheme: Scheme) -> String {
        if self.port == scheme.default_port() { self.host.to_string() } else { self.to_string() }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Scheme {
    /// The port used when an authority names none (RFC 9110 section 4.2).
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// The scheme in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl FromStr for Scheme {
    type Err = SchemeError;

    fn from_str(text: &str) -> Result<Self, SchemeError> {
        if text.eq_ignore_ascii_case("http") {
            Ok(Self::Http)
        } else if text.eq_ignore_ascii_case("https") {
            Ok(Self::Https)
        } else {
            Err(SchemeError)
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A port of one to five decimal digits, no sign, no leading zero, not zero.
#[must_use]
pub fn parse_port(digits: &str) -> Option<u16> {
    let plain = (1..=5).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && !digits.starts_with('0');
    if plain { digits.parse().ok() } else { None }
}

/// The port is what follows the last colon outside brackets; a second colon is left in the host,
/// where it is refused.
fn split_port(text: &str) -> Result<(&str, Option<&str>), AuthorityError> {
    if text.starts_with('[') {
        let (host, rest) = text.split_once(']').ok_or(HostError::BadIpv6)?;
        let host = text.get(..=host.len()).ok_or(HostError::BadIpv6)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(HostError::BadIpv6.into()),
        };
    }
    Ok(match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    })
}

fn parse_ipv6(inner: &str) -> Result<Host, HostError> {
    // `Ipv6Addr` accepts no zone, so `%eth0` fails here as it should.
    inner
        .parse::<Ipv6Addr>()
        .map(|ip| Host(Form::Ip(IpAddr::V6(ip))))
        .map_err(|_unparsable| HostError::BadIpv6)
}

fn parse_name_or_ipv4(text: &str) -> Result<Host, HostError> {
    let is_host_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !text.bytes().all(is_host_byte) {
        return Err(HostError::BadCharacter);
    }
    if ends_in_number(text) {
        // Strict: `Ipv4Addr` wants four decimal parts without leading zeros, and no trailing dot.
        return text
            .parse::<Ipv4Addr>()
            .map(|ip| Host(Form::Ip(IpAddr::V4(ip))))
            .map_err(|_other_spelling| HostError::Numeric);
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    check_name(&name)?;
    Ok(Host(Form::Name(name.into())))
}

/// Whether the last label is a number to `inet_aton` (decimal, octal or `0x` hexadecimal). Such a
/// text is an address or nothing: no top-level domain looks like this.
fn ends_in_number(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let last = text.rsplit('.').next().unwrap_or(text).as_bytes();
    match last {
        [] => false,
        [b'0', b'x' | b'X', hex @ ..] => hex.iter().all(u8::is_ascii_hexdigit),
        digits => digits.iter().all(u8::is_ascii_digit),
    }
}

fn check_name(name: &str) -> Result<(), HostError> {
    if name.len() > MAX_NAME {
        return Err(HostError::TooLong);
    }
    name.split('.').try_for_each(check_label)
}

fn check_label(label: &str) -> Result<(), HostError> {
    let shaped =
        (1..=MAX_LABEL).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-');
    if !shaped {
        return Err(HostError::BadLabel);
    }
    if label.starts_with("xn--") {
        return check_a_label(label);
    }
    Ok(())
}

fn check_a_label(label: &str) -> Result<(), HostError> {
    let (unicode, valid) =
        Uts46::new().to_unicode(label.as_bytes(), AsciiDenyList::URL, Hyphens::Allow);
    if valid.is_ok() && !unicode.is_ascii() { Ok(()) } else { Err(HostError::BadALabel) }
}

#[cfg(test)]
mod tests;
