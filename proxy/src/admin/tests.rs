use std::io::Write as _;

use http::Method;
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::*;
use crate::rules::RuleLimits;

const DOCUMENT: &str = r#"{"gh": {"real_base_url": "https://a.test/hook", "headers": {"Authorization": "Bearer SECRET"}}}"#;

fn token(text: &str) -> BearerToken {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    BearerToken::load(file.path()).unwrap()
}

fn context() -> AdminContext {
    AdminContext {
        rules: RuleStore::new(RuleLimits::default()),
        token: Some(token("t0ken")),
        metrics: Box::new(|| "ws_proxy_up 1\n".to_owned()),
        readiness: Box::new(Vec::new),
        rules_needed: RulesNeeded::Never,
        policy: Box::new(Nothing),
        hosts: OwnNames::default(),
    }
}

/// A policy of which only the questions matter.
pub(crate) struct Nothing;

impl PolicyView for Nothing {
    fn summary(&self) -> Value {
        serde_json::json!({ "allow_rules": 0 })
    }

    fn explain(
        &self,
        asked: Asked,
        resolve: bool,
    ) -> Pin<Box<dyn Future<Output = Value> + Send + '_>> {
        let code = asked.decide(&crate::policy::Policy::default()).err().map(|r| r.code());
        Box::pin(std::future::ready(serde_json::json!({ "code": code, "resolve": resolve })))
    }
}

#[tokio::test]
async fn explain_needs_the_token_and_a_question() {
    let context = context();
    let ask = |headers, body| Call { method: Method::POST, path: "/explain", headers, body };
    let question = r#"{"method": "CONNECT", "url": "a.example:443"}"#;
    let (head, _) = call(&context, ask(&[], question)).await;
    assert_eq!(head.status(), 401);
    let (head, body) = call(&context, ask(&[BEARER], question)).await;
    assert_eq!(head.status(), 200);
    assert_eq!(json(&body), serde_json::json!({ "code": "not_allowed", "resolve": false }));
    for (bad, code) in [
        ("{", "bad_json"),
        (r#"{"method": "GET"}"#, "bad_json"),
        (r#"{"method": "GET", "url": "http://a.example/", "more": 1}"#, "bad_json"),
        (r#"{"method": "GET", "url": "/x"}"#, "bad_question"),
    ] {
        let (head, body) = call(&context, ask(&[BEARER], bad)).await;
        assert_eq!(
            (head.status().as_u16(), json(&body)["code"].as_str()),
            (400, Some(code)),
            "{bad}"
        );
    }
    let show = Call { method: Method::GET, path: "/policy", headers: &[BEARER], body: "" };
    assert_eq!(call(&context, show).await.0.status(), 200);
}

struct Call<'a> {
    method: Method,
    path: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: &'a str,
}

const BEARER: (&str, &str) = ("authorization", "Bearer t0ken");

fn rules<'a>(method: Method, body: &'a str) -> Call<'a> {
    Call { method, path: "/rules", headers: &[BEARER], body }
}

async fn call(context: &AdminContext, call: Call<'_>) -> (Response<()>, String) {
    let mut request = Request::new(body::full(call.body.to_owned()));
    *request.method_mut() = call.method;
    *request.uri_mut() = call.path.parse().unwrap();
    for (name, value) in call.headers {
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        request.headers_mut().append(name, value.parse().unwrap());
    }
    let peer = Peer::Tcp("127.0.0.1:1".parse().unwrap());
    let (head, content) = handle(context, request, peer).await.into_parts();
    let content = content.collect().await.unwrap().to_bytes();
    (Response::from_parts(head, ()), String::from_utf8(content.to_vec()).unwrap())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn rules_are_put_shown_without_values_and_cleared() {
    let context = context();
    let (head, body) = call(&context, rules(Method::PUT, DOCUMENT)).await;
    assert_eq!(head.status(), 200);
    let put = json(&body);
    assert_eq!(put["server_count"], 1);
    assert_eq!(put["warnings"], serde_json::json!([]));
    let tag = format!("\"{}\"", put["revision"].as_str().unwrap());
    assert_eq!(head.headers()["etag"], tag);

    let (head, body) = call(&context, rules(Method::GET, "")).await;
    assert_eq!(head.headers()["etag"], tag);
    assert_eq!(head.headers()["cache-control"], "no-store");
    let shown = json(&body);
    assert_eq!(shown["mcp_servers"]["gh"]["origin"], "https://a.test");
    assert_eq!(shown["mcp_servers"]["gh"]["header_names"], serde_json::json!(["authorization"]));
    assert!(!body.contains("SECRET") && !body.contains("hook"), "{body}");

    let (head, _) = call(&context, rules(Method::DELETE, "")).await;
    assert_eq!(head.status(), 200);
    assert!(context.rules.snapshot().is_empty());
    call(&context, rules(Method::PUT, DOCUMENT)).await;
    let (head, _) = call(&context, rules(Method::PUT, "{}")).await;
    assert_eq!(head.status(), 200);
    assert!(context.rules.snapshot().is_empty());
}

#[tokio::test]
async fn rules_are_closed_without_exactly_the_token() {
    let context = context();
    let wrong: [&[(&str, &str)]; 5] = [
        &[],
        &[("authorization", "Bearer t0keN")],
        &[("authorization", "Bearer t0ke")],
        &[("authorization", "Bearer ")],
        &[BEARER, BEARER],
    ];
    for headers in wrong {
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let path = "/rules";
            let (head, body) = call(&context, Call { method, path, headers, body: DOCUMENT }).await;
            assert_eq!(head.status(), 401, "{headers:?}");
            assert_eq!(head.headers()["www-authenticate"], "Bearer");
            assert_eq!(json(&body)["code"], "unauthorized");
        }
    }
    assert_eq!(context.rules.snapshot().revision().number(), 0);
    let open = AdminContext { token: None, ..context };
    let (head, body) = call(&open, rules(Method::PUT, DOCUMENT)).await;
    assert_eq!(
        (head.status().as_u16(), json(&body)["code"].as_str().unwrap()),
        (403, "no_admin_token")
    );
}

#[tokio::test]
async fn web_pages_are_refused_even_with_the_token() {
    let context = context();
    for header in
        [("origin", "http://localhost"), ("origin", "null"), ("sec-fetch-site", "same-origin")]
    {
        let headers = &[BEARER, header];
        let call_it = Call { method: Method::GET, path: "/rules", headers, body: "" };
        let (head, body) = call(&context, call_it).await;
        assert_eq!(head.status(), 403);
        assert_eq!(json(&body)["code"], "browser_refused");
    }
}

#[tokio::test]
async fn a_bad_document_is_refused_whole_with_a_status_that_fits() {
    let context = context();
    call(&context, rules(Method::PUT, DOCUMENT)).await;
    let revision = context.rules.snapshot().revision().clone();
    let deep = "[".repeat(10_000);
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(5 << 20));
    let one_bad = r#"{"a": {"real_base_url": "https://SECRET"}, "b": {"real_base_url": "SECRET"}}"#;
    let rows = [
        ("not json SECRET", 400, "bad_json"),
        (deep.as_str(), 400, "json_too_deep"),
        (r#"{"a": 1, "a": 2}"#, 400, "duplicate_key"),
        (r#"{"a": NaN}"#, 400, "bad_json"),
        ("\u{feff}{}", 400, "bad_json"),
        (large.as_str(), 413, "document_too_large"),
        ("[]", 422, "invalid_rules"),
        ("null", 422, "invalid_rules"),
        (r#"{"version": 2, "mcp_servers": {}}"#, 422, "invalid_rules"),
        (one_bad, 422, "invalid_rules"),
        (r#"{"version": 1, "expected_revision": 77, "mcp_servers": {}}"#, 409, "revision_conflict"),
    ];
    for (document, status, code) in rows {
        let (head, body) = call(&context, rules(Method::PUT, document)).await;
        assert_eq!((head.status().as_u16(), json(&body)["code"].as_str().unwrap()), (status, code));
        assert_eq!(head.headers()["content-type"], "application/problem+json");
        assert!(!body.contains("SECRET"), "{body}");
    }
    assert_eq!(*context.rules.snapshot().revision(), revision);
    let (_, body) = call(&context, rules(Method::PUT, one_bad)).await;
    assert_eq!(json(&body)["errors"][0]["path"], "/b/real_base_url");
}

#[tokio::test]
async fn if_match_guards_a_change() {
    let context = context();
    let (head, _) = call(&context, rules(Method::PUT, DOCUMENT)).await;
    let tag = head.headers()["etag"].to_str().unwrap().to_owned();
    let put = |tag: &'static str| Call {
        method: Method::PUT,
        path: "/rules",
        headers: Box::leak(Box::new([BEARER, ("if-match", tag)])),
        body: "{}",
    };
    let (head, body) = call(&context, put("\"00000000-9\"")).await;
    assert_eq!(head.status(), 409);
    assert_eq!(format!("\"{}\"", json(&body)["revision"].as_str().unwrap()), tag);
    for bad in ["unquoted", "\"a\", \"b\"", "\"\""] {
        assert_eq!(call(&context, put(bad)).await.0.status(), 400, "{bad}");
    }
    assert_eq!(call(&context, put(Box::leak(tag.into_boxed_str()))).await.0.status(), 200);
    assert_eq!(call(&context, put("*")).await.0.status(), 200);
}

#[tokio::test]
async fn health_readiness_and_metrics_need_no_token() {
    let get = |path| Call { method: Method::GET, path, headers: &[], body: "" };
    let mut context = context();
    assert_eq!(call(&context, get("/healthz")).await.0.status(), 200);
    let (head, body) = call(&context, get("/metrics")).await;
    assert!(
        head.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4")
    );
    assert_eq!(body, "ws_proxy_up 1\n");
    let (head, body) = call(&context, get("/readyz")).await;
    assert_eq!(
        (head.status().as_u16(), json(&body)["checks"]["rules"].as_str().unwrap()),
        (200, "none")
    );

    context.rules_needed = RulesNeeded::BeforeReady;
    assert_eq!(call(&context, get("/readyz")).await.0.status(), 503);
    call(&context, rules(Method::PUT, DOCUMENT)).await;
    assert_eq!(call(&context, get("/readyz")).await.0.status(), 200);

    let waiting =
        Check { name: "aws_credentials", state: CheckState::Waiting("no credentials yet") };
    context.readiness = Box::new(move || vec![waiting.clone()]);
    let (head, body) = call(&context, get("/readyz")).await;
    assert_eq!(head.status(), 503);
    assert_eq!(json(&body)["checks"]["aws_credentials"], "no credentials yet");
    assert_eq!(call(&context, get("/healthz")).await.0.status(), 200);
}

#[tokio::test]
async fn other_methods_and_paths_are_told_what_is_there() {
    let context = context();
    let rows = [
        (Method::POST, "/rules", 405, "GET, HEAD, PUT, DELETE"),
        (Method::PATCH, "/rules", 405, "GET, HEAD, PUT, DELETE"),
        (Method::POST, "/healthz", 405, "GET, HEAD"),
        (Method::DELETE, "/metrics", 405, "GET, HEAD"),
        (Method::GET, "/rules/", 404, ""),
        (Method::GET, "/", 404, ""),
        (Method::GET, "/RULES", 404, ""),
    ];
    for (method, path, status, allow) in rows {
        let (head, _) = call(&context, Call { method, path, headers: &[BEARER], body: "" }).await;
        assert_eq!(head.status(), status, "{path}");
        let sent = head.headers().get("allow").map_or("", |value| value.to_str().unwrap());
        assert_eq!(sent, allow, "{path}");
    }
}
