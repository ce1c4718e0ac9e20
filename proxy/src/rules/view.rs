//! What the management plane shows of the rules: names, origins, header names, ends. Never a value,
//! and no path of a base URL, which can be a secret too.

use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::rule::McpRule;
use super::store::RuleSet;

/// The answer to `GET /rules`.
#[must_use]
pub fn of_set(set: &RuleSet, now: SystemTime) -> Value {
    let servers: Map<String, Value> =
        set.rules().map(|rule| (rule.name.clone(), of_rule(rule, now))).collect();
    json!({
        "revision": set.revision().to_string(),
        "server_count": set.len(),
        "mcp_servers": servers,
    })
}

fn of_rule(rule: &McpRule, now: SystemTime) -> Value {
    let headers: Vec<&str> = rule.headers.names().map(http::HeaderName::as_str).collect();
    let strip: Vec<&str> = rule.strip.iter().map(http::HeaderName::as_str).collect();
    let methods = rule.grant.methods.as_ref();
    let methods = methods.map(|list| list.iter().map(http::Method::as_str).collect::<Vec<_>>());
    let terms = rule.terms();
    json!({
        "origin": rule.base.origin(),
        "header_names": headers,
        "allow_methods": methods,
        "allow_paths": rule.grant.paths.as_ref().map(|globs| globs.patterns()),
        "strip_request_headers": strip,
        "max_request_bytes": rule.max_request_bytes,
        "idle_timeout_ms": rule.idle_timeout.map(|time| u64::try_from(time.as_millis()).ok()),
        "expires_at": terms.expires.map(rfc3339),
        "expired": rule.is_expired(now),
        "on_revoke": terms.on_revoke.as_str(),
        "redact_response": rule.redaction.as_str(),
    })
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
