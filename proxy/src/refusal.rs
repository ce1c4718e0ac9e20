//! Why the proxy does not serve a request: one closed list, and the only place that turns an entry
//! of it into a response.
//!
//! A refusal tells its reader (often an AI agent) what is wrong and whether a retry can help. It
//! never names what *is* allowed, an address, a secret, or anything that came from an upstream.

use std::borrow::Cow;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use hyper::ext::ReasonPhrase;
use serde_json::json;
use workspace_common::body::{self, Body};

use crate::host::{AuthorityError, HostError, SchemeError};
use crate::upstream::guard::AddressClass;

/// Carries the stable code. Copies from an upstream are removed, so a workspace can trust it.
pub const X_PROXY_ERROR: HeaderName = HeaderName::from_static("x-proxy-error");
/// RFC 9209.
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Seconds after which a client may try again where the proxy is only full for the moment.
const WHEN_FULL: HeaderValue = HeaderValue::from_static("5");
/// Seconds after which a host may be asked again; no rate makes anybody wait longer.
const WHEN_TOO_OFTEN: HeaderValue = HeaderValue::from_static("1");

/// One entry of the table below.
struct Row {
    status: StatusCode,
    code: &'static str,
    /// Proxy error type of RFC 9209 section 2.3.
    error: &'static str,
    title: &'static str,
    detail: &'static str,
}

/// Declares the enum and its table side by side, so that no variant lacks a row.
macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident $(($payload:ty))? = $status:ident, $code:literal, $error:literal, $title:literal, $detail:literal;)+) => {
        /// Why a request is refused or failed. Each has a stable code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $($(#[$doc])* $variant $(($payload))?,)+
        }

        impl Refusal {
            const fn row(self) -> Row {
                match self {
                    $(refusals!(@pattern $variant $(($payload))?) => Row {
                        status: StatusCode::$status,
                        code: $code,
                        error: $error,
                        title: $title,
                        detail: $detail,
                    },)+
                }
            }

            /// Every code, for documentation and tests.
            #[must_use]
            pub const fn codes() -> &'static [&'static str] {
                &[$($code),+]
            }
        }
    };
    (@pattern $variant:ident) => { Self::$variant };
    (@pattern $variant:ident ($payload:ty)) => { Self::$variant(_) };
}

refusals! {
    // What was asked cannot be understood, or could be understood in two ways.
    /// The host is not a host name or address.
    BadHost = BAD_REQUEST, "bad_host", "http_request_error", "The host is malformed",
        "Use a plain DNS name (international names in their xn-- form) or an IP address.";
    /// A number that resolvers read as an address.
    NumericHost = BAD_REQUEST, "numeric_host", "http_request_error", "The host is an ambiguous number",
        "An IPv4 address must be written as four plain decimal numbers.";
    /// A user name or password in the URL.
    Userinfo = BAD_REQUEST, "userinfo", "http_request_error", "The URL carries user information",
        "Remove the user name and password from the URL.";
    /// Host or port missing or malformed.
    BadAuthority = BAD_REQUEST, "bad_authority", "http_request_error", "The destination is not host:port",
        "Give one host and a port from 1 to 65535; CONNECT needs the port.";
    /// `Host` missing, repeated, or another than the URL's.
    HostMismatch = BAD_REQUEST, "host_mismatch", "http_request_error", "The Host header does not agree with the URL",
        "Send exactly one Host header that names the URL's host and port.";
    /// A CONNECT with a body.
    ConnectBody = BAD_REQUEST, "connect_body", "http_request_error", "A CONNECT request has no body",
        "Remove Content-Length and Transfer-Encoding from the CONNECT request.";
    /// Message framing that two readers could read differently.
    BadFraming = BAD_REQUEST, "bad_framing", "http_request_error", "The message framing is ambiguous",
        "Send either one Content-Length or Transfer-Encoding: chunked.";
    /// Dot segments, encoded separators or control characters in the path.
    BadPath = BAD_REQUEST, "bad_path", "http_request_error", "The path is ambiguous",
        "Send a path without dot segments, backslashes, encoded slashes, control characters and fragments.";
    /// Bytes that are no HTTP request, or one in a form that no two readers agree on.
    BadRequest = BAD_REQUEST, "bad_request", "http_request_error", "The request is malformed",
        "Send a well-formed HTTP/1.1 or HTTP/2 request.";
    /// A request line or headers over the limit.
    HeadTooLarge = REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", "http_request_error", "The request head is too large",
        "Send fewer or shorter headers.";
    /// A head that does not come to its end.
    HeaderTimeout = REQUEST_TIMEOUT, "header_timeout", "http_request_error", "The request head did not come in time",
        "Send the request line and the headers without a pause.";
    /// A request line over the limit.
    UriTooLong = URI_TOO_LONG, "uri_too_long", "http_request_error", "The URL is too long",
        "Send a shorter URL.";
    /// Neither http nor https.
    BadScheme = BAD_REQUEST, "scheme", "http_request_error", "The scheme is not supported",
        "Only http and https URLs are served.";
    /// The body ended early or could not be read.
    BadBody = BAD_REQUEST, "bad_body", "http_request_error", "The request body could not be read",
        "The body ended early or was not framed as announced.";

    // What was asked is not allowed.
    /// No allow rule names the destination.
    NotAllowed = FORBIDDEN, "not_allowed", "http_request_denied", "The destination is not allowed",
        "The policy of this workspace does not allow this host. A retry will not help; ask the operator if the host is needed.";
    /// A deny rule names the destination.
    Denied = FORBIDDEN, "denied", "http_request_denied", "The destination is denied",
        "The policy of this workspace denies this host. A retry will not help.";
    /// The host is allowed, the port is not.
    PortNotAllowed = FORBIDDEN, "port_not_allowed", "http_request_denied", "The port is not allowed",
        "The policy does not allow this port of the host. A retry will not help.";
    /// A port that is never opened on internal addresses.
    PortDenied = FORBIDDEN, "port_denied", "http_request_denied", "The port is denied",
        "Control-plane ports of internal addresses are never reachable.";
    /// The scheme or a tunnel is not allowed for this host.
    SchemeNotAllowed = FORBIDDEN, "scheme_not_allowed", "http_request_denied", "The way of access is not allowed",
        "The policy allows this host, but not over this scheme or not through a tunnel.";
    /// The method is not allowed for this host or route.
    MethodNotAllowed = FORBIDDEN, "method_not_allowed", "http_request_denied", "The method is not allowed",
        "The policy does not allow this method here. A retry will not help.";
    /// The path is not allowed for this host or route.
    PathNotAllowed = FORBIDDEN, "path_not_allowed", "http_request_denied", "The path is not allowed",
        "The policy does not allow this path here. A retry will not help.";
    /// Every address of the destination is refused by the guard.
    AddressDenied(AddressClass) = FORBIDDEN, "address_denied", "destination_ip_prohibited", "The destination's address is denied",
        "The destination is not on the public internet.";
    /// The destination is the proxy itself.
    SelfConnection = FORBIDDEN, "self_connection", "proxy_loop_detected", "The destination is the proxy itself",
        "The proxy does not connect to its own listeners.";
    /// A tunnel to where a reverse route leads.
    UseRoute = FORBIDDEN, "use_route", "http_request_denied", "The destination has a route of its own",
        "The proxy adds a credential to requests for this destination, which it cannot do inside a tunnel. Send them to the route of the destination on this proxy.";
    /// The TLS client hello names another host than the CONNECT request.
    SniMismatch = FORBIDDEN, "sni_mismatch", "http_request_denied", "The TLS server name is another host",
        "The server name in the TLS handshake must be the host of the CONNECT request.";
    /// The TLS client hello names no host.
    SniMissing = FORBIDDEN, "sni_missing", "http_request_denied", "The TLS handshake names no server",
        "The TLS handshake must carry the server name of the CONNECT request.";
    /// A tunnel to the TLS port in which no TLS is spoken.
    NotTls = FORBIDDEN, "not_tls", "http_request_denied", "The tunnel does not carry TLS",
        "Only TLS is spoken in tunnels, and HTTP in those to port 80, unless the policy says otherwise.";
    /// A TLS client hello that cannot be read.
    BadHello = FORBIDDEN, "bad_hello", "http_request_denied", "The TLS handshake is malformed",
        "The client hello could not be read.";
    /// A client hello with an encrypted one inside, where the policy refuses it.
    EchDenied = FORBIDDEN, "ech_denied", "http_request_denied", "Encrypted client hellos are not allowed",
        "Turn encrypted client hello off in the client.";
    /// The client sent no TLS client hello in time.
    HelloTimeout = FORBIDDEN, "hello_timeout", "http_request_denied", "The TLS handshake did not begin",
        "No client hello came within the time limit.";

    // What was asked does not exist or is not served.
    /// An origin-form path that is no route.
    UnknownRoute = NOT_FOUND, "unknown_route", "http_request_error", "No such route",
        "This is a forward proxy. Send an absolute URL, CONNECT, or the path of a configured route.";
    /// The rule existed and has expired.
    RuleExpired = GONE, "rule_expired", "http_request_denied", "The rule has expired",
        "The orchestrator must send the rule again.";
    /// The body is over the limit.
    BodyTooLarge = PAYLOAD_TOO_LARGE, "body_too_large", "http_request_error", "The request body is too large",
        "The body is over the limit for this route.";
    /// An `Expect` other than `100-continue`.
    ExpectationFailed = EXPECTATION_FAILED, "expectation_failed", "http_request_error", "The expectation is not supported",
        "Only Expect: 100-continue is understood.";
    /// A method the proxy never sends on.
    UnsupportedMethod = NOT_IMPLEMENTED, "unsupported_method", "http_request_error", "The method is not supported",
        "This method is never forwarded.";
    /// A way of using AWS that cannot be signed.
    AwsUnsupported = NOT_IMPLEMENTED, "aws_unsupported", "http_request_error", "The AWS request form is not supported",
        "The request cannot be signed in this form.";

    // It was allowed and failed.
    /// The name does not resolve.
    DnsError = BAD_GATEWAY, "dns_error", "dns_error", "The host name does not resolve",
        "The name server has no address for this host, or failed.";
    /// No address accepted a connection.
    ConnectFailed = BAD_GATEWAY, "connect_failed", "destination_unavailable", "The destination could not be reached",
        "No address of the destination accepted a connection.";
    /// The TLS handshake with the origin failed.
    TlsFailed = BAD_GATEWAY, "tls_failed", "tls_protocol_error", "The TLS handshake with the destination failed",
        "The destination's certificate is not valid for its name, or it does not speak TLS there.";
    /// The origin's answer breaks HTTP, or the connection broke before it.
    BadUpstream = BAD_GATEWAY, "bad_upstream", "http_protocol_error", "The destination gave no valid answer",
        "The destination closed the connection or answered with malformed HTTP.";
    /// A host is asked too often.
    RateLimited = TOO_MANY_REQUESTS, "rate_limited", "http_request_denied", "Too many requests to this host",
        "The workspace may ask this host only so often. Try again in a second, and more slowly.";
    /// The upstream proxy accepts no connection, has no address, or its TLS handshake fails.
    UpstreamProxyUnreachable = BAD_GATEWAY, "upstream_proxy_unreachable", "destination_unavailable", "The upstream proxy could not be reached",
        "Everything leaves through another proxy here, and that one accepted no connection.";
    /// The upstream proxy wants another credential than it got.
    UpstreamProxyAuth = BAD_GATEWAY, "upstream_proxy_auth", "proxy_configuration_error", "The upstream proxy wants a credential",
        "The proxy that everything leaves through did not accept this one's credential. The operator has to correct it.";
    /// The upstream proxy refuses the destination.
    UpstreamProxyDenied = BAD_GATEWAY, "upstream_proxy_denied", "http_request_denied", "The upstream proxy refuses the destination",
        "The policy of this workspace allows the destination; the proxy that everything leaves through does not. A retry will not help.";
    /// The upstream proxy could not connect to the destination.
    UpstreamProxyFailed = BAD_GATEWAY, "upstream_proxy_failed", "destination_unavailable", "The upstream proxy made no connection",
        "The proxy that everything leaves through could not connect to the destination.";
    /// What the upstream proxy answered is no HTTP, or has two readings.
    UpstreamProxyBadAnswer = BAD_GATEWAY, "upstream_proxy_bad_answer", "http_protocol_error", "The upstream proxy gave no valid answer",
        "The proxy that everything leaves through closed the connection or answered with malformed HTTP.";
    /// The credential for the route cannot be had.
    CredentialsUnavailable = BAD_GATEWAY, "credentials_unavailable", "proxy_internal_error", "The credential is not available",
        "The proxy cannot get the credential for this route at the moment. Nothing was sent without it.";
    /// The limit of tunnels is reached.
    Overloaded = SERVICE_UNAVAILABLE, "overloaded", "connection_limit_reached", "The proxy is at its limit",
        "Too many tunnels are open. Close some or try again later.";
    /// The limit of connections is reached.
    TooManyConnections = SERVICE_UNAVAILABLE, "too_many_connections", "connection_limit_reached", "The proxy is at its limit",
        "Too many connections to the proxy are open. Close some or try again later.";
    /// The audit line would be lost, and lines are required.
    AuditUnavailable = SERVICE_UNAVAILABLE, "audit_unavailable", "proxy_internal_error", "The request cannot be recorded",
        "Every request is written down here before it is served, and the log takes nothing at the moment. Try again later.";
    /// The proxy is stopping.
    Draining = SERVICE_UNAVAILABLE, "draining", "proxy_internal_response", "The proxy is stopping",
        "No new requests are taken.";
    /// The connect budget ran out.
    ConnectTimeout = GATEWAY_TIMEOUT, "connect_timeout", "connection_timeout", "The destination did not answer in time",
        "No connection was made within the time limit.";
    /// The upstream proxy did not answer in time, or did not connect in time.
    UpstreamProxyTimeout = GATEWAY_TIMEOUT, "upstream_proxy_timeout", "connection_timeout", "The upstream proxy did not answer in time",
        "The proxy that everything leaves through made no connection within the time limit.";
    /// The name server did not answer in time.
    DnsTimeout = GATEWAY_TIMEOUT, "dns_timeout", "dns_timeout", "The name server did not answer in time",
        "The host name could not be resolved within the time limit.";
    /// The origin sent nothing for the idle timeout.
    UpstreamTimeout = GATEWAY_TIMEOUT, "upstream_timeout", "http_response_timeout", "The destination did not respond in time",
        "The connection stood, but nothing came back within the time limit.";
}

impl Refusal {
    /// The HTTP status of the response.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        self.row().status
    }

    /// The stable code: value of `x-proxy-error`, of the audit line and of metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// A short text that is the same for every occurrence.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.row().title
    }

    /// What the reader can do about it.
    #[must_use]
    pub fn detail(self) -> Cow<'static, str> {
        match self {
            Self::AddressDenied(class) => format!(
                "The destination's address is of class {class}, which is not reachable from here."
            )
            .into(),
            other => other.row().detail.into(),
        }
    }

    /// Whether the policy said no, in contrast to something having failed.
    #[must_use]
    pub const fn is_denial(self) -> bool {
        let status = self.row().status.as_u16();
        status < 500 || status == 501
    }

    /// The complete response.
    #[must_use]
    pub fn response(self) -> Response<Body> {
        self.response_saying(&self.detail())
    }

    /// The same with another detail.
    #[must_use]
    pub fn response_saying(self, detail: &str) -> Response<Body> {
        let row = self.row();
        let document = json!({
            "status": row.status.as_u16(),
            "code": row.code,
            "title": row.title,
            "detail": detail,
        });
        let mut response = Response::new(body::json(&document));
        *response.status_mut() = row.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_PROXY_ERROR, HeaderValue::from_static(row.code));
        if let Ok(status) = proxy_status(&row) {
            headers.insert(PROXY_STATUS, status);
        }
        if let Some(seconds) = retry_after(row.status) {
            headers.insert(RETRY_AFTER, seconds);
        }
        if let Some(phrase) = reason_phrase(&row) {
            response.extensions_mut().insert(phrase);
        }
        response
    }

    /// The limit that was reached, as `ws_proxy_limit_hits_total` names it.
    #[must_use]
    pub const fn limit(self) -> Option<&'static str> {
        match self {
            Self::TooManyConnections => Some("connections"),
            Self::Overloaded => Some("tunnels"),
            Self::RateLimited => Some("host_rate"),
            Self::HeadTooLarge | Self::UriTooLong => Some("head"),
            Self::BodyTooLarge => Some("body"),
            Self::HeaderTimeout => Some("header_timeout"),
            Self::HelloTimeout => Some("hello_timeout"),
            Self::DnsTimeout => Some("dns_timeout"),
            Self::ConnectTimeout => Some("connect_timeout"),
            Self::UpstreamTimeout => Some("idle_timeout"),
            _ => None,
        }
    }
}

/// Seconds after which another try makes sense.
fn retry_after(status: StatusCode) -> Option<HeaderValue> {
    match status {
        StatusCode::SERVICE_UNAVAILABLE => Some(WHEN_FULL),
        StatusCode::TOO_MANY_REQUESTS => Some(WHEN_TOO_OFTEN),
        _ => None,
    }
}

/// The usual phrase and the code. Most clients show nothing else of a CONNECT that was refused.
fn reason_phrase(row: &Row) -> Option<ReasonPhrase> {
    let usual = row.status.canonical_reason()?;
    ReasonPhrase::try_from(format!("{usual} ({})", row.code)).ok()
}

fn proxy_status(row: &Row) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let text = format!("workspace-proxy; error={}; details=\"{}\"", row.error, row.code);
    HeaderValue::try_from(text)
}

impl From<HostError> for Refusal {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Numeric => Self::NumericHost,
            HostError::Empty => Self::BadAuthority,
            HostError::TooLong
            | HostError::BadLabel
            | HostError::BadCharacter
            | HostError::BadALabel
            | HostError::BadIpv6 => Self::BadHost,
        }
    }
}

impl From<AuthorityError> for Refusal {
    fn from(error: AuthorityError) -> Self {
        match error {
            AuthorityError::Userinfo => Self::Userinfo,
            AuthorityError::Host(host) => host.into(),
            AuthorityError::MissingPort | AuthorityError::BadPort => Self::BadAuthority,
        }
    }
}

impl From<SchemeError> for Refusal {
    fn from(_: SchemeError) -> Self {
        Self::BadScheme
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn codes_are_distinct() {
        let distinct: HashSet<_> = Refusal::codes().iter().collect();
        assert_eq!(distinct.len(), Refusal::codes().len());
    }

    #[tokio::test]
    async fn a_response_says_its_code_wherever_a_client_may_look() {
        let response = Refusal::AddressDenied(AddressClass::Private).response();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(response.headers()["x-proxy-error"], "address_denied");
        assert_eq!(
            response.headers()["proxy-status"],
            "workspace-proxy; error=destination_ip_prohibited; details=\"address_denied\""
        );
        let phrase = response.extensions().get::<ReasonPhrase>().unwrap();
        assert_eq!(phrase.as_bytes(), b"Forbidden (address_denied)");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(document["code"], "address_denied");
        assert!(document["detail"].as_str().unwrap().contains("private"));
    }

    #[test]
    fn only_a_momentary_refusal_invites_a_retry() {
        assert_eq!(Refusal::Overloaded.response().headers()[RETRY_AFTER], "5");
        assert_eq!(Refusal::RateLimited.response().headers()[RETRY_AFTER], "1");
        assert!(!Refusal::NotAllowed.response().headers().contains_key(RETRY_AFTER));
    }
}
