//! Request heads, good and bad.

use http::Request;
use proptest::prelude::*;

use super::*;

const ALL: Routes = Routes { bedrock: true, bedrock_catchall: true };
const BEDROCK: Routes = Routes { bedrock: true, bedrock_catchall: false };

fn head(method: &str, uri: &str, headers: &[(&str, &str)]) -> Option<Parts> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Some(request.body(()).ok()?.into_parts().0)
}

/// What hyper refuses to parse counts as refused here, too.
fn read(
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    routes: Routes,
) -> Result<Target, Refusal> {
    head(method, uri, headers).map_or(Err(Refusal::BadHost), |head| classify(&head, routes))
}

fn at(text: &str) -> HostPort {
    HostPort::parse_authority(text, None).unwrap()
}

#[test]
fn connect_needs_exactly_host_and_port() {
    for (uri, expected) in [
        ("allowed.example:443", Ok(Target::Connect(at("allowed.example:443")))),
        ("ALLOWED.example.:443", Ok(Target::Connect(at("allowed.example:443")))),
        ("[2001:db8::1]:443", Ok(Target::Connect(at("[2001:db8::1]:443")))),
        ("allowed.example", Err(Refusal::BadAuthority)),
        ("allowed.example:", Err(Refusal::BadAuthority)),
        ("allowed.example:0", Err(Refusal::BadAuthority)),
        ("allowed.example:+443", Err(Refusal::BadAuthority)),
        ("allowed.example:00443", Err(Refusal::BadAuthority)),
        ("allowed.example:70000", Err(Refusal::BadAuthority)),
        ("u:p@allowed.example:443", Err(Refusal::Userinfo)),
        ("/x", Err(Refusal::BadAuthority)),
        ("*", Err(Refusal::BadAuthority)),
        ("http://allowed.example:443/", Err(Refusal::BadAuthority)),
        ("[allowed.example]:443", Err(Refusal::BadHost)),
        ("0x7f.1:443", Err(Refusal::NumericHost)),
        ("b..example:443", Err(Refusal::BadHost)),
        ("*.example:443", Err(Refusal::BadHost)),
    ] {
        assert_eq!(read("CONNECT", uri, &[], ALL), expected, "{uri}");
    }
}

#[test]
fn connect_carries_no_body_and_no_other_host() {
    let uri = "allowed.example:443";
    for (headers, expected) in [
        (&[("host", "allowed.example:443")][..], None),
        (&[("host", "allowed.example")], None),
        (&[("host", "evil.test:443")], Some(Refusal::HostMismatch)),
        (&[("host", "allowed.example"), ("host", "evil.test")], Some(Refusal::HostMismatch)),
        (&[("content-length", "5")], Some(Refusal::ConnectBody)),
        (&[("transfer-encoding", "chunked")], Some(Refusal::ConnectBody)),
    ] {
        assert_eq!(read("CONNECT", uri, headers, ALL).err(), expected, "{headers:?}");
    }
}

#[test]
fn absolute_form_is_forwarded_in_canonical_form() {
    let forward = |scheme, authority: &str, origin_form: &str| {
        let origin_form = origin_form.to_owned();
        Ok(Target::Forward(Forward { scheme, at: at(authority), origin_form }))
    };
    for (uri, host, expected) in [
        ("http://plain.test/a?b=1", "plain.test", forward(Scheme::Http, "plain.test:80", "/a?b=1")),
        ("HTTP://PLAIN.TEST/", "plain.test:80", forward(Scheme::Http, "plain.test:80", "/")),
        ("http://plain.test", "plain.test", forward(Scheme::Http, "plain.test:80", "/")),
        ("http://plain.test?x", "plain.test", forward(Scheme::Http, "plain.test:80", "/?x")),
        (
            "https://plain.test:8443/",
            "plain.test:8443",
            forward(Scheme::Https, "plain.test:8443", "/"),
        ),
        ("http://plain.test/", "evil.test", Err(Refusal::HostMismatch)),
        ("http://plain.test:8080/", "plain.test", Err(Refusal::HostMismatch)),
        ("http://plain.test/", "", Err(Refusal::BadAuthority)),
        ("http://plain.test/", "a, b", Err(Refusal::BadHost)),
        ("http://plain.test/", "a@b", Err(Refusal::Userinfo)),
        ("http://plain.test:080/", "plain.test", Err(Refusal::BadAuthority)),
        ("http://a.test@plain.test/", "plain.test", Err(Refusal::Userinfo)),
        ("ftp://plain.test/", "plain.test", Err(Refusal::BadScheme)),
        ("ws://plain.test/", "plain.test", Err(Refusal::BadScheme)),
        ("gopher://plain.test/", "plain.test", Err(Refusal::BadScheme)),
    ] {
        assert_eq!(read("GET", uri, &[("host", host)], ALL), expected, "{uri} {host}");
    }
}

#[test]
fn what_is_neither_absolute_nor_origin_form_is_refused() {
    for uri in [
        "p",
        "allowed.example:443",
        "*",
        "http:///plain.test",
        "http:plain.test",
        "http://plain.test\\@evil.test/",
    ] {
        assert!(read("GET", uri, &[("host", "plain.test")], ALL).is_err(), "{uri}");
    }
}

#[test]
fn host_is_there_once() {
    let twice = [("host", "plain.test"), ("host", "plain.test")];
    for uri in ["http://plain.test/", "/mcp/gh"] {
        assert_eq!(read("GET", uri, &[], ALL), Err(Refusal::HostMismatch), "{uri}");
        assert_eq!(read("GET", uri, &twice, ALL), Err(Refusal::HostMismatch), "{uri}");
    }
}

#[test]
fn odd_methods_and_framing_are_refused() {
    let uri = "http://plain.test/";
    for method in ["connect", "TRACE", "GE!T", "get", &"A".repeat(33)] {
        let result = read(method, uri, &[("host", "plain.test")], ALL);
        assert_eq!(result, Err(Refusal::UnsupportedMethod), "{method}");
    }
    for (name, values, expected) in [
        ("transfer-encoding", &["Chunked"][..], None),
        ("transfer-encoding", &["gzip, chunked"], Some(Refusal::BadFraming)),
        ("transfer-encoding", &["chunked", "chunked"], Some(Refusal::BadFraming)),
        ("content-length", &["1", "1"], Some(Refusal::BadFraming)),
        ("expect", &["100-Continue"], None),
        ("expect", &["x"], Some(Refusal::ExpectationFailed)),
    ] {
        let mut headers = vec![("host", "plain.test")];
        headers.extend(values.iter().map(|value| (name, *value)));
        assert_eq!(read("POST", uri, &headers, ALL).err(), expected, "{headers:?}");
    }
}

fn mcp_path(server: &str, rest: &str, query: Option<&str>) -> Result<Target, Refusal> {
    Ok(Target::Mcp(McpPath {
        server: server.to_owned(),
        rest: rest.to_owned(),
        query: query.map(str::to_owned),
    }))
}

#[test]
fn reverse_routes_go_by_path() {
    let bedrock = |text: &str| Ok(Target::Bedrock(text.to_owned()));
    for (uri, expected) in [
        ("/mcp/gh", mcp_path("gh", "", None)),
        ("/mcp/gh/", mcp_path("gh", "/", None)),
        ("/mcp/gh?x=1", mcp_path("gh", "", Some("x=1"))),
        ("/mcp/gh/a//b?x=1", mcp_path("gh", "/a//b", Some("x=1"))),
        ("/mcp/gh/http://evil.test/", mcp_path("gh", "/http://evil.test/", None)),
        ("/mcp/gh/@evil.test", mcp_path("gh", "/@evil.test", None)),
        ("/mcp/gh/%252e%252e", mcp_path("gh", "/%252e%252e", None)),
        ("/mcp/", Err(Refusal::UnknownRoute)),
        ("/mcp", Err(Refusal::UnknownRoute)),
        ("/MCP/gh", Err(Refusal::UnknownRoute)),
        ("/mcp/g%68/x", Err(Refusal::UnknownRoute)),
        ("//evil.test/x", Err(Refusal::UnknownRoute)),
        ("/", Err(Refusal::UnknownRoute)),
        ("/model/x:0/invoke", Err(Refusal::UnknownRoute)),
        ("/bedrock", Err(Refusal::UnknownRoute)),
        ("/bedrock/model/a%2Fb%3A0/invoke?x", bedrock("/model/a%2Fb%3A0/invoke?x")),
    ] {
        assert_eq!(read("POST", uri, &[("host", "evil.test")], BEDROCK), expected, "{uri}");
    }
}

#[test]
fn the_catchall_takes_what_is_no_other_route() {
    let read = |uri| read("POST", uri, &[("host", "127.0.0.1:8080")], ALL);
    assert_eq!(read("/model/x/invoke"), Ok(Target::Bedrock("/model/x/invoke".into())));
    for uri in ["/mcp", "/mcp/", "/bedrock", "//evil.test/x"] {
        assert_eq!(read(uri), Err(Refusal::UnknownRoute), "{uri}");
    }
}

#[test]
fn ambiguous_paths_on_credential_routes_are_refused() {
    for path in [
        "/mcp/gh/../other",
        "/mcp/gh/%2e%2e/x",
        "/mcp/gh/%2E./x",
        "/mcp/gh/..%2fx",
        "/mcp/gh/./x",
        "/mcp/gh/x%5cy",
        "/mcp/gh/x\\y",
        "/mcp/gh/x%00",
        "/mcp/gh/%0d%0aX:1",
        "/mcp/gh/..;a/x",
        "/mcp/../mcp/gh",
        "/mcp/gh/x%7f",
        "/bedrock/../x",
        "/bedrock/%2e%2e/x",
        "/bedrock/x%0a",
    ] {
        assert_eq!(read("GET", path, &[("host", "a")], BEDROCK), Err(Refusal::BadPath), "{path}");
    }
}

#[test]
fn http2_to_the_loopback_name_is_a_route_and_to_any_other_a_forward() {
    for (uri, is_route) in [
        ("http://127.0.0.1:8080/mcp/gh", true),
        ("http://localhost:8080/mcp/gh", true),
        ("http://[::1]/mcp/gh", true),
        ("http://plain.test/mcp/gh", false),
    ] {
        let mut head = head("GET", uri, &[]).unwrap();
        head.version = Version::HTTP_2;
        let target = classify(&head, ALL).unwrap();
        assert_eq!(matches!(target, Target::Mcp(_)), is_route, "{uri}");
    }
}

proptest! {
    #[test]
    fn no_request_line_panics(method in "[A-Za-z!]{1,8}", uri in "\\PC{0,60}", host in "\\PC{0,20}") {
        if let Some(head) = head(&method, &uri, &[("host", &host)]) {
            let _outcome = classify(&head, ALL);
        }
    }

    #[test]
    fn an_accepted_reverse_path_has_no_dot_segment(rest in "[a-z./%25e;\\\\]{0,30}") {
        let uri = format!("/mcp/gh/{rest}");
        if let Ok(Target::Mcp(path)) = read("GET", &uri, &[("host", "a")], ALL) {
            prop_assert!(path.rest.split('/').all(|s| s != ".." && s != "."));
        }
    }
}

#[test]
fn an_asterisk_is_no_path_to_forward() {
    let uri = Uri::builder().scheme("http").authority("plain.test").path_and_query("*");
    let mut head = head("OPTIONS", "/", &[]).unwrap();
    head.uri = uri.build().unwrap();
    head.version = Version::HTTP_2;
    assert_eq!(classify(&head, Routes::default()), Err(Refusal::BadPath));
}
