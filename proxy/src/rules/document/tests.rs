use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::rules::{RuleStore, view};

fn now() -> SystemTime {
    humantime::parse_rfc3339("2030-01-01T00:00:00Z").unwrap()
}

fn read(body: &str) -> Result<Document, DocumentError> {
    parse(body.as_bytes(), &RuleLimits::default(), now())
}

/// The faults of a body as `path code`.
fn faults(body: &Value) -> Vec<String> {
    match read(&body.to_string()) {
        Err(DocumentError::Invalid(faults)) => {
            faults.iter().map(|fault| format!("{} {}", fault.path, fault.code)).collect()
        }
        other => panic!("not refused for its content: {other:?}"),
    }
}

fn versioned(rule: &Value) -> Value {
    json!({ "version": 1, "mcp_servers": { "gh": rule } })
}

/// A versioned document whose one rule has `key` set to `value`.
fn with(key: &str, value: &Value) -> Value {
    let mut rule = json!({ "real_base_url": "https://api.gh.test/v1" });
    rule[key] = value.clone();
    versioned(&rule)
}

#[test]
fn the_predecessors_map_is_read() {
    let body = r#"{
        "gh": {"real_base_url": "https://api.gh.test/v1", "headers": {"Authorization": "Bearer X"}},
        "version": {"real_base_url": "https://v.test"},
        "bare": {"real_base_url": "https://b.test", "headers": {}}
    }"#;
    let document = read(body).unwrap();
    let names: Vec<_> = document.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["gh", "version", "bare"]);
    assert_eq!(document.rules[0].headers.names().next().unwrap(), "authorization");
    assert_eq!(document.expected, None);
    assert!(read("{}").unwrap().rules.is_empty());
}

#[test]
fn the_versioned_document_is_read() {
    let rule = json!({
        "real_base_url": "https://instance.example.com/api",
        "headers": { "Authorization": "Bearer X" },
        "allow_methods": ["GET", "POST"],
        "allow_paths": ["/now/**"],
        "strip_request_headers": ["cookie", "X-Tenant"],
        "max_request_bytes": 10_485_760,
        "idle_timeout_ms": 300_000,
        "expires_at": "2030-01-01T00:10:00Z",
        "on_revoke": "finish",
        "redact_response": "headers",
    });
    let mut body = versioned(&rule);
    body["expected_revision"] = json!(41);
    body["ttl_seconds"] = json!(3600);
    let document = read(&body.to_string()).unwrap();
    assert_eq!(document.expected, Some(Expected::Number(41)));
    let [rule] = document.rules.as_slice() else { panic!("one rule expected") };
    assert_eq!(rule.permits(&Method::GET, "/now/a/b"), Ok(()));
    assert_eq!(rule.strip.len(), 2);
    assert_eq!(rule.max_request_bytes, Some(10_485_760));
    assert_eq!(rule.idle_timeout, Some(Duration::from_secs(300)));
    assert_eq!(rule.redaction, Redaction::Headers);
    let expires = now() + Duration::from_secs(600);
    assert_eq!(rule.terms(), Terms { expires: Some(expires), on_revoke: OnRevoke::Finish });
    assert!(!rule.is_expired(now()));
    assert!(rule.is_expired(expires));
}

#[test]
fn the_time_to_live_of_the_document_bounds_every_rule() {
    let mut body = with("expires_at", &json!("2031-01-01T00:00:00Z"));
    body["ttl_seconds"] = json!(60);
    let document = read(&body.to_string()).unwrap();
    assert_eq!(document.rules[0].terms().expires, Some(now() + Duration::from_secs(60)));
    let limits = RuleLimits { default_ttl: Some(Duration::from_secs(5)), ..RuleLimits::default() };
    let map = br#"{"gh": {"real_base_url": "https://a.test"}}"#;
    let document = parse(map, &limits, now()).unwrap();
    assert_eq!(document.rules[0].terms().expires, Some(now() + Duration::from_secs(5)));
}

#[test]
fn a_rule_that_is_over_already_is_taken_with_a_warning() {
    let body = with("expires_at", &json!("2029-12-31T23:59:59Z"));
    let document = read(&body.to_string()).unwrap();
    assert_eq!(document.warnings[0].path, "/mcp_servers/gh/expires_at");
    assert!(document.rules[0].is_expired(now()));
}

#[test]
fn faults_of_the_document_are_told_by_path_and_code() {
    let url = json!("https://a.test");
    assert_faults(vec![
        (json!([]), " bad_type"),
        (json!(null), " bad_type"),
        (json!({"version": 2, "mcp_servers": {}}), "/version out_of_range"),
        (json!({"version": "1", "mcp_servers": {}}), "/version out_of_range"),
        (json!({"version": 1}), "/mcp_servers missing"),
        (json!({"version": 1, "mcp_servers": {}, "x": 1}), "/x unknown_field"),
        (json!({"version": 1, "mcp_servers": [], }), "/mcp_servers bad_type"),
        (json!({"version": 1, "mcp_servers": {}, "ttl_seconds": 0}), "/ttl_seconds out_of_range"),
        (
            json!({"version": 1, "mcp_servers": {}, "ttl_seconds": 86_401}),
            "/ttl_seconds out_of_range",
        ),
        (
            json!({"version": 1, "mcp_servers": {}, "expected_revision": -1}),
            "/expected_revision bad_type",
        ),
        (json!({"gh": 1}), "/gh bad_type"),
        (json!({"gh": {}}), "/gh/real_base_url missing"),
        (json!({"gh": {"real_base_url": 1}}), "/gh/real_base_url bad_type"),
        (json!({"gh": {"real_base_url": "http://a.test"}}), "/gh/real_base_url plain_http"),
        (json!({"gh": {"real_base_url": "https://a.test/?k=1"}}), "/gh/real_base_url bad_base_url"),
        (json!({"gh": {"real_base_url": url, "allow_paths": []}}), "/gh/allow_paths unknown_field"),
        (json!({"": {"real_base_url": url}}), "/ bad_name"),
        (json!({"..": {"real_base_url": url}}), "/.. bad_name"),
        (json!({"a/b": {"real_base_url": url}}), "/a~1b bad_name"),
        (json!({"-a": {"real_base_url": url}}), "/-a bad_name"),
    ]);
}

#[test]
fn faults_of_a_rule_are_told_by_path_and_code() {
    let long = "v".repeat(8193);
    assert_faults(vec![
        (with("headers", &json!([])), "/mcp_servers/gh/headers bad_type"),
        (with("headers", &json!({"A": 1})), "/mcp_servers/gh/headers/A bad_type"),
        (with("headers", &json!({"Host": "x"})), "/mcp_servers/gh/headers/Host reserved_header"),
        (with("headers", &json!({"a b": "x"})), "/mcp_servers/gh/headers/a b bad_header_name"),
        (with("headers", &json!({"A": "x\r\ny"})), "/mcp_servers/gh/headers/A bad_header_value"),
        (with("headers", &json!({"A": long})), "/mcp_servers/gh/headers/A bad_header_value"),
        (
            with("headers", &json!({"A-B": "1", "a_b": "2"})),
            "/mcp_servers/gh/headers/a_b duplicate_header",
        ),
        (with("allow_methods", &json!(["get"])), "/mcp_servers/gh/allow_methods/0 bad_method"),
        (
            with("allow_methods", &json!(["GET", "CONNECT"])),
            "/mcp_servers/gh/allow_methods/1 bad_method",
        ),
        (with("allow_methods", &json!("GET")), "/mcp_servers/gh/allow_methods bad_type"),
        (with("allow_paths", &json!(["x"])), "/mcp_servers/gh/allow_paths/0 bad_glob"),
        (
            with("strip_request_headers", &json!([1])),
            "/mcp_servers/gh/strip_request_headers/0 bad_type",
        ),
        (
            with("strip_request_headers", &json!(["host"])),
            "/mcp_servers/gh/strip_request_headers/0 bad_header_name",
        ),
        (with("max_request_bytes", &json!(1.5)), "/mcp_servers/gh/max_request_bytes out_of_range"),
        (with("idle_timeout_ms", &json!(true)), "/mcp_servers/gh/idle_timeout_ms out_of_range"),
        (with("expires_at", &json!("tomorrow")), "/mcp_servers/gh/expires_at bad_time"),
        (with("on_revoke", &json!("x")), "/mcp_servers/gh/on_revoke unknown_value"),
        (with("redact_response", &json!("body")), "/mcp_servers/gh/redact_response unknown_value"),
        (with("allow_private", &json!(true)), "/mcp_servers/gh/allow_private unknown_field"),
    ]);
}

fn assert_faults(rows: Vec<(Value, &str)>) {
    for (body, expected) in rows {
        let found = faults(&body);
        assert_eq!(found.first().map(String::as_str), Some(expected), "{body}: {found:?}");
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let body = json!({
        "good": { "real_base_url": "https://a.test" },
        "bad1": { "real_base_url": "x" },
        "bad2": { "real_base_url": "https://a.test", "headers": { "TE": "x", "Host": "y" } },
    });
    assert_eq!(faults(&body).len(), 3);
}

#[test]
fn too_many_servers_are_refused() {
    let mut body = json!({});
    for number in 0..=MAX_SERVERS {
        body[format!("s{number}")] = json!({ "real_base_url": "https://a.test" });
    }
    assert_eq!(faults(&body), [" too_many"]);
}

#[test]
fn bodies_that_are_no_json_are_told_apart_from_bad_content() {
    for body in ["", "{", "nope", r#"{"a":1,"a":2}"#] {
        assert!(matches!(read(body), Err(DocumentError::Json(_))), "{body}");
    }
}

/// A text that marks itself, broken in one of the ways that make a field faulty.
/// Its mark is neither a method, which has no small letters, nor a header name as it is shown, which
/// has no capitals: those two are no secrets.
fn marked() -> impl Strategy<Value = String> {
    ("[a-z]{0,5}", prop::sample::select(vec!["", " ", "\n", "\0", "/", "?", "\u{e9}"]))
        .prop_map(|(filling, odd)| format!("{odd}{filling}SecretValue{filling}{odd}"))
}

fn marked_document() -> impl Strategy<Value = Value> {
    let fields = prop::collection::vec(
        (
            prop::sample::select(vec![
                "real_base_url",
                "allow_methods",
                "allow_paths",
                "strip_request_headers",
                "max_request_bytes",
                "expires_at",
                "on_revoke",
                "redact_response",
                "surprise",
            ]),
            marked(),
            any::<bool>(),
        ),
        0..4,
    );
    (fields, marked(), any::<bool>()).prop_map(|(fields, header, map)| {
        let mut rule = json!({
            "real_base_url": "https://a.test/SecretValue",
            "headers": { "X-Key": header, "Authorization": "Bearer SecretValue" },
        });
        for (key, text, listed) in fields {
            rule[key] = if listed { json!([text]) } else { json!(text) };
        }
        if map { json!({ "gh": rule }) } else { versioned(&rule) }
    })
}

proptest! {
    /// Whatever a document says, and however it is refused: no value comes back out.
    #[test]
    fn no_value_is_ever_shown(body in marked_document(), cut in 0_usize..400) {
        let text = body.to_string();
        let cut: String = text.chars().take(cut).collect();
        let mut shown = String::new();
        for text in [text, cut] {
            match read(&text) {
                Ok(document) => {
                    write!(shown, "{document:?}").unwrap();
                    let store = RuleStore::new(RuleLimits::default());
                    let set = store.replace(document, None).unwrap();
                    write!(shown, "{set:?} {store:?} {}", view::of_set(&set, now())).unwrap();
                }
                Err(DocumentError::Invalid(faults)) => {
                    faults.iter().for_each(|fault| write!(shown, "{}", fault.to_json()).unwrap());
                }
                Err(error) => write!(shown, "{error} {error:?}").unwrap(),
            }
        }
        // Globs are shown on purpose: they say what is allowed and are no credentials.
        let shown = shown.replace("allow_paths\":[\"/", "");
        let values_of_globs = body.to_string().contains("allow_paths");
        prop_assert!(values_of_globs || !shown.contains("SecretValue"), "{}", shown);
    }
}
