//! A call to a port, and the request that the server there is to see. Pure.

use std::num::NonZeroU16;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header, uri::PathAndQuery,
};
use http_body::Body;
use workspace_common::{hop, problem::Problem};

/// By which name the caller knows the agent, and beneath which path the port.
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// The only protocol that a connection may change to.
const WEBSOCKET: &str = "websocket";

/// `{port}/{path}?{query}`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PortCall {
    pub(super) port: NonZeroU16,
    target: PathAndQuery,
}

impl PortCall {
    /// Reads the path behind `/v1/ports/` as it was sent: escapes are the server's to decode.
    ///
    /// # Errors
    /// `bad_port` when the first segment is no port.
    pub(super) fn parse(call: &str, query: Option<&str>) -> Result<Self, Problem> {
        let (port, path) = call.split_once('/').unwrap_or((call, ""));
        let is_plain = port.bytes().all(|byte| byte.is_ascii_digit());
        let number = port.parse().ok().filter(|_| is_plain);
        let port = number.ok_or_else(|| bad_port(port))?;
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let target = format!("/{path}{query}");
        let target = target.parse().map_err(|_ignored| bad_port(call))?;
        Ok(Self { port, target })
    }

    /// The request as the server is to see it: its own path, a `Host` that servers for developers
    /// accept, and nothing of the caller's connection or credential.
    pub(super) fn outgoing<B: Body>(&self, request: Request<B>, socket: bool) -> Request<B> {
        let (mut head, body) = request.into_parts();
        let asked = head.uri.authority().map(|authority| authority.as_str().to_owned());
        let asked = asked.and_then(|authority| HeaderValue::try_from(authority).ok());
        let asked = asked.or_else(|| head.headers.get(header::HOST).cloned());
        let headers = &mut head.headers;
        hop::remove_hop_by_hop(headers);
        headers.remove(header::AUTHORIZATION);
        // The agent answers expectations itself.
        headers.remove(header::EXPECT);
        if let Some(asked) = asked {
            headers.entry(FORWARDED_HOST).or_insert(asked);
        }
        set_from_port(headers, self.port);
        hop::frame(headers, &body);
        if socket {
            set_upgrade(headers);
        }
        head.uri = Uri::from(self.target.clone());
        head.version = Version::HTTP_11;
        head.extensions.clear();
        Request::from_parts(head, body)
    }
}

fn set_from_port(headers: &mut HeaderMap, port: NonZeroU16) {
    if let Ok(host) = HeaderValue::try_from(format!("localhost:{port}")) {
        headers.insert(header::HOST, host);
    }
    if let Ok(prefix) = HeaderValue::try_from(format!("/v1/ports/{port}")) {
        headers.entry(FORWARDED_PREFIX).or_insert(prefix);
    }
}

/// Puts the wish for a WebSocket, or the agreement to one, onto cleaned headers.
pub(super) fn set_upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
}

/// Whether the connection is to become a WebSocket (RFC 6455). Any other upgrade is not passed on.
pub(super) fn asks_for_websocket<B: Body>(request: &Request<B>) -> bool {
    let headers = request.headers();
    request.version() == Version::HTTP_11
        && request.method() == Method::GET
        && request.body().is_end_stream()
        && hop::offers_only(headers, WEBSOCKET)
        && hop::names_upgrade(headers)
}

fn bad_port(text: &str) -> Problem {
    let detail = format!("'{text}' names no port: write /v1/ports/PORT/PATH, PORT from 1 to 65535");
    Problem::bad_request("bad_port", detail)
}

#[cfg(test)]
mod tests {
    use workspace_common::body;

    use super::*;

    fn target(call: &str, query: Option<&str>) -> String {
        PortCall::parse(call, query).unwrap().target.to_string()
    }

    #[test]
    fn the_rest_of_the_path_is_passed_on_as_it_was_sent() {
        assert_eq!(target("3000", None), "/");
        assert_eq!(target("3000/", Some("")), "/?");
        assert_eq!(target("3000/a//b%2Fc/../d", Some("x=%20&y")), "/a//b%2Fc/../d?x=%20&y");
        for bad in ["", "/", "0", "65536", "+80", "80a/x", "-1", "localhost"] {
            assert_eq!(PortCall::parse(bad, None).unwrap_err().code, "bad_port", "{bad}");
        }
    }

    #[test]
    fn the_server_sees_neither_credential_nor_connection() {
        let call = PortCall::parse("3000/x", None).unwrap();
        let request = Request::get("/v1/ports/3000/x")
            .header("host", "agent.test:8080")
            .header("authorization", "Bearer token")
            .header("proxy-authorization", "Basic x")
            .header("connection", "x-private, upgrade")
            .header("x-private", "1")
            .header("upgrade", "h2c")
            .header("cookie", "theirs=1")
            .body(body::empty())
            .unwrap();
        assert!(!asks_for_websocket(&request));
        let request = call.outgoing(request, false);
        assert_eq!(request.uri(), "/x");
        let mut headers: Vec<_> = request
            .headers()
            .iter()
            .map(|(n, v)| format!("{n}: {}", v.to_str().unwrap()))
            .collect();
        headers.sort();
        let expected = [
            "cookie: theirs=1",
            "host: localhost:3000",
            "x-forwarded-host: agent.test:8080",
            "x-forwarded-prefix: /v1/ports/3000",
        ];
        assert_eq!(headers, expected);
    }

    #[test]
    fn a_websocket_is_asked_for_and_kept() {
        let request = Request::get("/v1/ports/1/")
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "WebSocket")
            .body(body::empty())
            .unwrap();
        assert!(asks_for_websocket(&request));
        let request = PortCall::parse("1/", None).unwrap().outgoing(request, true);
        assert_eq!(request.headers()["upgrade"], "websocket");
        assert_eq!(request.headers()["connection"], "Upgrade");
    }
}
