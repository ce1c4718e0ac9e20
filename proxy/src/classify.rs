//! What a request asks for: the one place where a request head becomes a [`Target`].
//!
//! hyper lets through much that two readers could understand differently (a `Host` that contradicts
//! the URL, `GET host:port`, lower-case `connect`, user information, odd ports). All of it is
//! refused here, before policy is asked. Pure: it reads the head and nothing else.
//!
//! Invariant: the destination of a [`Target`] comes from the request line alone, and whatever else
//! the head says about the destination agrees with it.

use http::header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Method, Uri, Version};

use crate::host::{HostPort, Scheme};
use crate::refusal::Refusal;

/// What is asked, in canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A tunnel.
    Connect(HostPort),
    /// A request to forward.
    Forward(Forward),
    /// A request on the reverse route of a rule.
    Mcp(McpPath),
    /// A Bedrock request: path and query as AWS is to see them.
    Bedrock(String),
}

/// An absolute-form request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Scheme of the URL.
    pub scheme: Scheme,
    /// Host and port of the URL.
    pub at: HostPort,
    /// Path and query to send on.
    pub origin_form: String,
}

impl Forward {
    /// The path alone.
    #[must_use]
    pub fn path(&self) -> &str {
        self.origin_form.split('?').next().unwrap_or("/")
    }
}

/// A path below `/mcp/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct McpPath {
    /// Name of the rule, taken literally: nothing is percent-decoded.
    pub server: String,
    /// What follows the name: empty, or beginning with `/`.
    pub rest: String,
    /// The query without `?`.
    pub query: Option<String>,
}

/// Which reverse routes exist.
#[derive(Clone, Copy, Debug, Default)]
pub struct Routes {
    /// Whether `/bedrock/…` is served.
    pub bedrock: bool,
    /// Whether every other path is a Bedrock path, as the predecessor had it.
    pub bedrock_catchall: bool,
}

/// Longest method name that is sent on; the registered ones have at most 17 characters.
const MAX_METHOD: usize = 32;

/// Reads a request head.
///
/// # Errors
/// The first reason why the request is malformed, ambiguous or of a kind that is not served.
pub fn classify(head: &Parts, routes: Routes) -> Result<Target, Refusal> {
    check_method(&head.method)?;
    check_framing(&head.headers)?;
    if head.method == Method::CONNECT {
        return connect(head);
    }
    check_expect(&head.headers)?;
    match form(head)? {
        Form::Absolute(scheme) => forward(head, scheme),
        Form::Origin => reverse(head, routes),
    }
}

/// Reads the head of a request inside a tunnel to a port that carries HTTP in clear. It may name no
/// other destination than the tunnel's.
///
/// # Errors
/// As [`classify`].
pub fn classify_inside(head: &Parts, at: &HostPort) -> Result<Forward, Refusal> {
    check_method(&head.method)?;
    check_framing(&head.headers)?;
    if head.method == Method::CONNECT {
        return Err(Refusal::UnsupportedMethod);
    }
    check_expect(&head.headers)?;
    if head.uri.scheme().is_some() {
        let Target::Forward(target) = forward(head, form_scheme(head)?)? else {
            return Err(Refusal::BadAuthority);
        };
        let same = target.at == *at && target.scheme == Scheme::Http;
        return if same { Ok(target) } else { Err(Refusal::HostMismatch) };
    }
    let named = single_host(&head.headers)?.ok_or(Refusal::HostMismatch)?;
    check_host_header(named, at, Some(Scheme::Http.default_port()))?;
    let path = head.uri.path_and_query().filter(|path| path.as_str().starts_with('/'));
    let path = path.filter(|_| head.uri.authority().is_none()).ok_or(Refusal::BadAuthority)?;
    Ok(Forward { scheme: Scheme::Http, at: at.clone(), origin_form: path.as_str().to_owned() })
}

fn form_scheme(head: &Parts) -> Result<Scheme, Refusal> {
    Ok(head.uri.scheme_str().unwrap_or_default().parse::<Scheme>()?)
}

/// TRACE would echo injected credentials; a name that is not in capitals is somebody's attempt to
/// have `connect` treated as something else.
fn check_method(method: &Method) -> Result<(), Refusal> {
    let name = method.as_str();
    let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    let served = name.len() <= MAX_METHOD
        && name.bytes().all(plain)
        && !matches!(name, "TRACE" | "TRACK" | "PRI");
    if served { Ok(()) } else { Err(Refusal::UnsupportedMethod) }
}

/// hyper refuses contradicting lengths and unknown codings. What it accepts beyond one plain
/// `chunked` is refused here.
fn check_framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked_only = match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    };
    let both = headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH);
    let one_length = headers.get_all(CONTENT_LENGTH).iter().count() <= 1;
    if chunked_only && !both && one_length { Ok(()) } else { Err(Refusal::BadFraming) }
}

fn check_expect(headers: &HeaderMap) -> Result<(), Refusal> {
    let understood =
        |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if headers.get_all(EXPECT).iter().all(understood) {
        Ok(())
    } else {
        Err(Refusal::ExpectationFailed)
    }
}

fn connect(head: &Parts) -> Result<Target, Refusal> {
    let uri = &head.uri;
    let authority = uri.authority().ok_or(Refusal::BadAuthority)?;
    if uri.scheme().is_some() || uri.path_and_query().is_some_and(|p| p.as_str() != "/") {
        return Err(Refusal::BadAuthority);
    }
    let no_body = head.headers.get(CONTENT_LENGTH).is_none_or(|length| length == "0");
    if !no_body || head.headers.contains_key(TRANSFER_ENCODING) {
        return Err(Refusal::ConnectBody);
    }
    let at = HostPort::parse_authority(authority.as_str(), None)?;
    // Many clients leave `Host` out of a CONNECT, and the tunnel does not carry it on.
    if let Some(named) = single_host(&head.headers)? {
        check_host_header(named, &at, None)?;
    }
    Ok(Target::Connect(at))
}

enum Form {
    Absolute(Scheme),
    Origin,
}

/// Tells `GET http://host/path` from `GET /path`; `GET host:port` and `GET *` are neither.
fn form(head: &Parts) -> Result<Form, Refusal> {
    let uri = &head.uri;
    let Some(scheme) = uri.scheme_str() else {
        let origin = uri.authority().is_none() && uri.path().starts_with('/');
        return if origin { Ok(Form::Origin) } else { Err(Refusal::BadAuthority) };
    };
    if head.version == Version::HTTP_2 && names_this_machine(uri) {
        return Ok(Form::Origin);
    }
    Ok(Form::Absolute(scheme.parse::<Scheme>()?))
}

/// HTTP/2 has no origin-form: every request names an authority. One that names the loopback
/// interface means the proxy itself, which is how an SDK with a base URL of `http://127.0.0.1:8080`
/// arrives.
fn names_this_machine(uri: &Uri) -> bool {
    let host = uri.authority().map(http::uri::Authority::as_str);
    let at = host.and_then(|text| HostPort::parse_authority(text, Some(80)).ok());
    at.is_some_and(|at| match at.host.ip() {
        Some(ip) => ip.is_loopback(),
        None => at.host.name() == Some("localhost"),
    })
}

fn forward(head: &Parts, scheme: Scheme) -> Result<Target, Refusal> {
    let authority = head.uri.authority().ok_or(Refusal::BadAuthority)?;
    let at = HostPort::parse_authority(authority.as_str(), Some(scheme.default_port()))?;
    match single_host(&head.headers)? {
        Some(named) => check_host_header(named, &at, Some(scheme.default_port()))?,
        None if head.version == Version::HTTP_11 => return Err(Refusal::HostMismatch),
        None => {}
    }
    let origin_form = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let origin_form = match origin_form.as_bytes().first() {
        Some(b'/') => origin_form.to_owned(),
        Some(b'?') | None => format!("/{origin_form}"),
        // HTTP/2 can ask for `*`, which is no path of the origin's.
        Some(_) => return Err(Refusal::BadPath),
    };
    Ok(Target::Forward(Forward { scheme, at, origin_form }))
}

/// At most one `Host`; two are an attempt to have us read another one than the origin does.
fn single_host(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => Ok(None),
        (Some(host), None) => host.to_str().map(Some).map_err(|_ignored| Refusal::BadHost),
        (Some(_), Some(_)) => Err(Refusal::HostMismatch),
    }
}

fn check_host_header(text: &str, at: &HostPort, default: Option<u16>) -> Result<(), Refusal> {
    let named = HostPort::parse_authority(text, default.or(Some(at.port)))?;
    if named == *at { Ok(()) } else { Err(Refusal::HostMismatch) }
}

/// Reverse routes go by path alone. The `Host` that the client sends is ignored, but must be there
/// once and be one.
fn reverse(head: &Parts, routes: Routes) -> Result<Target, Refusal> {
    match single_host(&head.headers)? {
        Some(named) => drop(HostPort::parse_authority(named, Some(80))?),
        None if head.version == Version::HTTP_11 => return Err(Refusal::HostMismatch),
        None => {}
    }
    let path = head.uri.path();
    let query = head.uri.query();
    if let Some(rest) = path.strip_prefix("/mcp/") {
        check_path(path, EncodedSlash::Refused)?;
        return mcp(rest, query);
    }
    if let Some(rest) = path.strip_prefix("/bedrock").filter(|rest| rest.starts_with('/')) {
        return bedrock(routes.bedrock, rest, query);
    }
    // A credential route must not be reachable by a path that only looks like another route.
    let elsewhere = path == "/mcp" || path == "/bedrock" || path.starts_with("//");
    bedrock(routes.bedrock_catchall && !elsewhere, path, query)
}

fn mcp(rest: &str, query: Option<&str>) -> Result<Target, Refusal> {
    let (server, rest) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if server.is_empty() || !server.bytes().all(plain) {
        return Err(Refusal::UnknownRoute);
    }
    Ok(Target::Mcp(McpPath {
        server: server.to_owned(),
        rest: rest.to_owned(),
        query: query.map(str::to_owned),
    }))
}

fn bedrock(served: bool, path: &str, query: Option<&str>) -> Result<Target, Refusal> {
    if !served {
        return Err(Refusal::UnknownRoute);
    }
    // Model identifiers may be ARNs, which hold slashes.
    check_path(path, EncodedSlash::Data)?;
    Ok(Target::Bedrock(query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))))
}

/// What an encoded slash or backslash in a path is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodedSlash {
    /// An attempt to cross a segment border behind our back.
    Refused,
    /// Part of a segment.
    Data,
}

/// Refuses paths that the origin could read as another path than we do: dot segments in any
/// spelling, backslashes, control characters. Double encoding (`%252e`) is data.
///
/// # Errors
/// [`Refusal::BadPath`].
pub fn check_path(path: &str, slash: EncodedSlash) -> Result<(), Refusal> {
    let lower = path.to_ascii_lowercase();
    let has_escape = |from: u8, to: u8| {
        lower.match_indices('%').any(|(at, _)| {
            let digits = lower.get(at + 1..at + 3);
            digits
                .and_then(|hex| u8::from_str_radix(hex, 16).ok())
                .is_some_and(|byte| (from..=to).contains(&byte))
        })
    };
    let separators =
        slash == EncodedSlash::Refused && (has_escape(b'/', b'/') || has_escape(b'\\', b'\\'));
    let controls = has_escape(0, 0x1f) || has_escape(0x7f, 0x7f);
    let dots = lower.split('/').any(is_dot_segment);
    if path.contains('\\') || separators || controls || dots {
        return Err(Refusal::BadPath);
    }
    Ok(())
}

fn is_dot_segment(segment: &str) -> bool {
    // `..;x` is a dot segment to servers that cut path parameters off first.
    let name = segment.split(';').next().unwrap_or(segment);
    matches!(name.replace("%2e", ".").as_str(), "." | "..")
}

#[cfg(test)]
mod tests;
