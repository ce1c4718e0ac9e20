//! Answers of the management listener, told to people.

use std::fmt::Write as _;

use serde_json::Value;

use super::Reply;

/// The outcome of `rules …`.
pub(super) fn rules(reply: &Reply) -> String {
    if !reply.status.is_success() {
        return refusal(reply);
    }
    let revision = text(&reply.content, "revision");
    let count = reply.content.get("server_count").and_then(Value::as_u64).unwrap_or_default();
    let mut lines = format!("revision {revision}, {count} server(s)\n");
    if let Some(servers) = reply.content.get("mcp_servers").and_then(Value::as_object) {
        servers.iter().for_each(|(name, server)| line(&mut lines, &self::server(name, server)));
    }
    for warning in list(&reply.content, "warnings") {
        line(&mut lines, &format!("warning: {}", fault(warning)));
    }
    lines
}

/// The outcome of `health`.
pub(super) fn health(reply: &Reply) -> String {
    let status = text(&reply.content, "status");
    if status.is_empty() {
        return refusal(reply);
    }
    let mut lines = format!("{status}\n");
    if let Some(checks) = reply.content.get("checks").and_then(Value::as_object) {
        for (name, state) in checks {
            line(&mut lines, &format!("  {name}: {}", state.as_str().unwrap_or("unknown")));
        }
    }
    lines
}

fn server(name: &str, server: &Value) -> String {
    let headers: Vec<&str> =
        list(server, "header_names").iter().filter_map(Value::as_str).collect();
    let headers = if headers.is_empty() { "none".to_owned() } else { headers.join(", ") };
    let expired = server.get("expired").and_then(Value::as_bool).unwrap_or_default();
    let end = match (expired, text(server, "expires_at")) {
        (_, "") => String::new(),
        (true, end) => format!(", expired {end}"),
        (false, end) => format!(", until {end}"),
    };
    format!("  {name} -> {} (headers: {headers}{end})", text(server, "origin"))
}

fn refusal(reply: &Reply) -> String {
    let mut lines = format!(
        "refused (HTTP {}, {}): {}\n",
        reply.status.as_u16(),
        text(&reply.content, "code"),
        text(&reply.content, "detail")
    );
    for error in list(&reply.content, "errors") {
        line(&mut lines, &fault(error));
    }
    lines
}

fn fault(fault: &Value) -> String {
    let path = match text(fault, "path") {
        "" => "the document",
        path => path,
    };
    format!("  {path} {} ({})", text(fault, "message"), text(fault, "code"))
}

fn line(lines: &mut String, text: &str) {
    // Writing to a String cannot fail; control characters in names must not reach a terminal.
    let shown: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let _infallible = writeln!(lines, "{shown}");
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
