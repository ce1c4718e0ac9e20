use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use http::Method;

use super::*;
use crate::rules::document;

fn document(body: &str) -> Document {
    document::parse(body.as_bytes(), &RuleLimits::default(), SystemTime::now()).unwrap()
}

fn store_with(body: &str) -> RuleStore {
    let store = RuleStore::new(RuleLimits::default());
    store.replace(document(body), None).unwrap();
    store
}

fn rule(store: &RuleStore, name: &str) -> Arc<McpRule> {
    store.snapshot().server(name, SystemTime::now()).unwrap()
}

fn is_revoked(rule: &McpRule) -> bool {
    pin!(rule.revoked()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

const GH: &str = r#"{"gh": {"real_base_url": "https://a.test", "headers": {"X-Key": "one"}}}"#;

#[test]
fn every_change_counts_and_names_the_boot() {
    let store = RuleStore::new(RuleLimits::default());
    let first = store.snapshot().revision().clone();
    assert_eq!(first.number(), 0);
    let set = store.replace(document(GH), None).unwrap();
    assert_eq!(set.revision().number(), 1);
    let boot = first.to_string();
    let boot = boot.split('-').next().unwrap();
    assert_eq!(set.revision().to_string(), format!("{boot}-1"));
}

#[test]
fn a_stale_expectation_changes_nothing() {
    let store = store_with(GH);
    let current = store.snapshot().revision().to_string();
    for expected in [Expected::Number(0), Expected::Exactly("00000000-1".into())] {
        let conflict = store.replace(document("{}"), Some(&expected)).unwrap_err();
        assert_eq!(conflict.revision.to_string(), current);
    }
    let stale = r#"{"version": 1, "expected_revision": 7, "mcp_servers": {}}"#;
    assert!(store.replace(document(stale), None).is_err());
    assert_eq!(store.snapshot().len(), 1);
    assert!(store.replace(document("{}"), Some(&Expected::Exactly(current))).is_ok());
    assert!(store.snapshot().is_empty());
    assert!(store.replace(document(GH), Some(&Expected::Exactly("2".into()))).is_ok());
}

#[test]
fn of_two_changes_to_one_revision_one_wins() {
    let store = store_with("{}");
    let expected = Expected::Number(1);
    let outcomes: Vec<bool> = std::thread::scope(|scope| {
        let changes: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| store.replace(document(GH), Some(&expected)).is_ok()))
            .collect();
        changes.into_iter().map(|change| change.join().unwrap()).collect()
    });
    assert_eq!(outcomes.into_iter().filter(|won| *won).count(), 1);
    assert_eq!(store.snapshot().revision().number(), 2);
}

#[test]
fn unknown_and_expired_rules_are_told_apart() {
    let store = store_with(
        r#"{"version": 1, "mcp_servers": {
            "old": {"real_base_url": "https://a.test", "expires_at": "2001-01-01T00:00:00Z"}}}"#,
    );
    let set = store.snapshot();
    let now = SystemTime::now();
    assert_eq!(set.server("old", now).unwrap_err(), Refusal::RuleExpired);
    for name in ["new", "", "OLD", "o%6cd"] {
        assert_eq!(set.server(name, now).unwrap_err(), Refusal::UnknownRoute, "{name}");
    }
}

#[test]
fn rotating_a_header_keeps_streams_and_changes_new_requests() {
    let store = store_with(GH);
    let former = rule(&store, "gh");
    store.replace(document(&GH.replace("one", "two")), None).unwrap();
    assert!(!is_revoked(&former));
    let mut headers = http::HeaderMap::new();
    rule(&store, "gh").headers.apply(&mut headers).unwrap();
    assert_eq!(headers["x-key"], "two");
    store.replace(Document::default(), None).unwrap();
    assert!(is_revoked(&former), "the lease passed on, so its end reaches old streams");
}

#[test]
fn streams_end_when_their_rule_leads_elsewhere_or_allows_something_else() {
    for other in [
        "{}",
        r#"{"gh": {"real_base_url": "https://b.test"}}"#,
        r#"{"version": 1, "mcp_servers": {"gh": {"real_base_url": "https://a.test", "allow_methods": ["GET"]}}}"#,
    ] {
        let store = store_with(GH);
        let former = rule(&store, "gh");
        store.replace(document(other), None).unwrap();
        assert!(is_revoked(&former), "{other}");
    }
}

#[test]
fn streams_may_finish_where_the_rule_says_so() {
    let body = r#"{"version": 1, "mcp_servers": {
        "gh": {"real_base_url": "https://a.test", "on_revoke": "finish"}}}"#;
    let store = store_with(body);
    let former = rule(&store, "gh");
    store.replace(Document::default(), None).unwrap();
    assert!(!is_revoked(&former));
}

#[tokio::test]
async fn an_expiry_reached_ends_streams() {
    let terms = crate::rules::lease::Terms {
        expires: Some(SystemTime::now() + Duration::from_millis(20)),
        on_revoke: crate::rules::lease::OnRevoke::Close,
    };
    let base = crate::rules::BaseUrl::parse("https://a.test", Default::default()).unwrap();
    let route = crate::rules::rule::Route { name: "gh".into(), base, headers: Default::default() };
    McpRule::new(route, terms).revoked().await;
}

#[test]
fn a_rule_without_grant_allows_everything_but_connect_and_trace() {
    let rule = rule(&store_with(GH), "gh");
    for method in [Method::GET, Method::POST, Method::DELETE] {
        assert_eq!(rule.permits(&method, "/any/path"), Ok(()));
    }
    for method in [Method::CONNECT, Method::TRACE] {
        assert_eq!(rule.permits(&method, "/"), Err(Refusal::MethodNotAllowed));
    }
    assert_eq!(rule.permits(&Method::GET, "/../x"), Err(Refusal::BadPath));
}

#[test]
fn a_grant_limits_methods_and_paths() {
    let store = store_with(
        r#"{"version": 1, "mcp_servers": {"gh": {"real_base_url": "https://a.test",
            "allow_methods": ["GET"], "allow_paths": ["/repos/*"]}}}"#,
    );
    let rule = rule(&store, "gh");
    assert_eq!(rule.permits(&Method::GET, "/repos/x"), Ok(()));
    assert_eq!(rule.permits(&Method::POST, "/repos/x"), Err(Refusal::MethodNotAllowed));
    assert_eq!(rule.permits(&Method::GET, "/REPOS/x"), Err(Refusal::PathNotAllowed));
    assert_eq!(rule.permits(&Method::GET, "/repos/../admin"), Err(Refusal::BadPath));
    assert_eq!(rule.permits(&Method::GET, ""), Err(Refusal::PathNotAllowed));
}
