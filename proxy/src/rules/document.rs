//! A rules document: from bytes to domain values, all of it or nothing.
//!
//! Two shapes are taken. The predecessor's map is `{server: {real_base_url, headers}}`; the versioned
//! document has `version`, `mcp_servers` and per-rule limits. A top-level `version` that is no object
//! tells them apart, so a server may be called `version` in the map.

use std::time::{Duration, SystemTime};

use http::Method;
use http::header::HeaderName;
use thiserror::Error;
use workspace_common::secret::Secret;

use super::base_url::{BaseUrl, PlainHttp};
use super::fields::{Faults, FieldError, Fields, child};
use super::json::{self, JsonError, Node};
use super::lease::{OnRevoke, Terms};
use super::path::PathGlobs;
use super::rule::{Grant, McpRule, Redaction, Route};
use super::store::Expected;
use crate::credential::HeaderInjection;

/// Most servers of one document.
const MAX_SERVERS: usize = 256;
/// Longest name of a server.
const MAX_NAME: usize = 64;
/// Most entries of the lists of a rule.
const MAX_LIST: usize = 64;
/// Longest time to live that the operator can allow.
const LONGEST_TTL: u64 = 86_400;

/// What the operator allows documents to say.
#[derive(Clone, Copy, Debug)]
pub struct RuleLimits {
    /// Whether rules may lead to origins without TLS.
    pub plain_http: PlainHttp,
    /// How long rules live when the document does not say; `None` is until they are replaced.
    pub default_ttl: Option<Duration>,
    /// The longest time a document may ask for, at most a day.
    pub max_ttl: Duration,
}

impl Default for RuleLimits {
    fn default() -> Self {
        Self {
            plain_http: PlainHttp::Refused,
            default_ttl: None,
            max_ttl: Duration::from_secs(LONGEST_TTL),
        }
    }
}

/// A document whose every part is valid.
#[derive(Debug, Default)]
pub struct Document {
    /// The revision it is meant to replace.
    pub expected: Option<Expected>,
    /// Its rules, each name once.
    pub rules: Vec<McpRule>,
    /// What is accepted but probably not meant.
    pub warnings: Vec<FieldError>,
}

/// Why a document is not applied.
#[derive(Debug, Error)]
pub enum DocumentError {
    /// It is no acceptable JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// It is JSON, but not a rules document.
    #[error("the document has {} fault(s); nothing was applied", .0.len())]
    Invalid(Vec<FieldError>),
}

/// Reads a document that arrived at `now`.
///
/// # Errors
/// The first fault of the JSON, or all faults of the content.
pub fn parse(body: &[u8], limits: &RuleLimits, now: SystemTime) -> Result<Document, DocumentError> {
    let root = json::parse(body)?;
    let mut faults = Faults::default();
    let mut reader = Reader { limits, now, warnings: Vec::new() };
    let document = reader.document(root, &mut faults);
    let document = Document { warnings: reader.warnings, ..document.unwrap_or_default() };
    faults.into_result(document).map_err(DocumentError::Invalid)
}

struct Reader<'l> {
    limits: &'l RuleLimits,
    now: SystemTime,
    warnings: Vec<FieldError>,
}

impl Reader<'_> {
    fn document(&mut self, root: Node, faults: &mut Faults) -> Option<Document> {
        let Node::Object(entries) = &root else {
            faults.note("", "bad_type", "must be a JSON object; {} clears all rules");
            return None;
        };
        let version = entries.iter().find(|(key, _)| key == "version").map(|(_, node)| node);
        match version {
            None | Some(Node::Object(_)) => {
                let rules = self.servers(root, "", Shape::Map, self.terms_until(None), faults)?;
                Some(Document { rules, ..Document::default() })
            }
            Some(_) => self.versioned(root, faults),
        }
    }

    fn versioned(&mut self, root: Node, faults: &mut Faults) -> Option<Document> {
        let mut fields = Fields::of(root, String::new(), faults)?;
        if fields.number("version", 1, 1).is_none() {
            fields.note("version", "unknown_version", "only version 1 is known");
        }
        let expected = expected(&mut fields);
        let longest = self.limits.max_ttl.as_secs().clamp(1, LONGEST_TTL);
        let ttl = fields.number("ttl_seconds", 1, longest).map(Duration::from_secs);
        let terms = self.terms_until(ttl);
        let rules = match fields.take("mcp_servers") {
            Some(node) => {
                let path = fields.path_of("mcp_servers");
                self.servers(node, &path, Shape::Versioned, terms, fields.faults())
            }
            None => {
                fields.note(
                    "mcp_servers",
                    "missing",
                    "is needed; an empty object clears all rules",
                );
                None
            }
        };
        fields.finish();
        Some(Document { expected, rules: rules.unwrap_or_default(), warnings: Vec::new() })
    }

    /// The end of rules that name none themselves.
    fn terms_until(&self, ttl: Option<Duration>) -> Terms {
        let expires = ttl.or(self.limits.default_ttl).map(|ttl| self.now + ttl);
        Terms { expires, on_revoke: OnRevoke::Close }
    }

    #[expect(clippy::too_many_arguments, reason = "what distinguishes the two shapes")]
    fn servers(
        &mut self,
        node: Node,
        path: &str,
        shape: Shape,
        terms: Terms,
        faults: &mut Faults,
    ) -> Option<Vec<McpRule>> {
        let Node::Object(entries) = node else {
            faults.note(path, "bad_type", "must be a JSON object of servers");
            return None;
        };
        if entries.len() > MAX_SERVERS {
            faults.note(path, "too_many", format!("at most {MAX_SERVERS} servers are taken"));
            return None;
        }
        let rules = entries.into_iter().filter_map(|(name, node)| {
            let path = child(path, &name);
            if !is_server_name(&name) {
                faults.note(&path, "bad_name", NAME_RULE);
            }
            let mut fields = Fields::of(node, path, faults)?;
            let rule = self.rule(name, &mut fields, shape, terms);
            fields.finish();
            rule
        });
        Some(rules.collect())
    }

    fn rule(
        &mut self,
        name: String,
        fields: &mut Fields<'_>,
        shape: Shape,
        terms: Terms,
    ) -> Option<McpRule> {
        let base = self.base_url(fields);
        let headers = headers(fields);
        let route = base.map(|base| Route { name, base, headers });
        match shape {
            Shape::Map => Some(McpRule::new(route?, terms)),
            Shape::Versioned => self.detailed(route, fields, terms),
        }
    }

    /// Reads all fields even where the route is faulty, so that all faults are told at once.
    fn detailed(
        &mut self,
        route: Option<Route>,
        fields: &mut Fields<'_>,
        terms: Terms,
    ) -> Option<McpRule> {
        let grant = Grant { methods: methods(fields), paths: paths(fields) };
        let strip = strip(fields);
        let max_request_bytes = fields.number("max_request_bytes", 1, u64::MAX);
        let idle_timeout =
            fields.number("idle_timeout_ms", 1, 86_400_000).map(Duration::from_millis);
        let redaction = fields
            .word("redact_response", &[("none", Redaction::None), ("headers", Redaction::Headers)]);
        let terms = Terms {
            expires: self.expires(fields, terms.expires),
            on_revoke: fields
                .word("on_revoke", &[("close", OnRevoke::Close), ("finish", OnRevoke::Finish)])
                .unwrap_or_default(),
        };
        let mut rule = McpRule::new(route?, terms);
        rule.grant = grant;
        rule.strip = strip;
        rule.max_request_bytes = max_request_bytes;
        rule.idle_timeout = idle_timeout;
        rule.redaction = redaction.unwrap_or_default();
        Some(rule)
    }

    fn base_url(&self, fields: &mut Fields<'_>) -> Option<BaseUrl> {
        const KEY: &str = "real_base_url";
        let Some(node) = fields.take(KEY) else {
            fields.note(KEY, "missing", "is needed: the https URL that the route leads to");
            return None;
        };
        let Node::Text(text) = node else {
            fields.note(KEY, "bad_type", "must be a text");
            return None;
        };
        BaseUrl::parse(text.expose(), self.limits.plain_http)
            .map_err(|error| fields.note(KEY, error.code(), error.to_string()))
            .ok()
    }

    /// The earlier one of the rule's own end and the document's.
    fn expires(
        &mut self,
        fields: &mut Fields<'_>,
        general: Option<SystemTime>,
    ) -> Option<SystemTime> {
        const KEY: &str = "expires_at";
        let Some(text) = fields.text(KEY) else { return general };
        let Ok(own) = humantime::parse_rfc3339(text.expose()) else {
            fields.note(KEY, "bad_time", "must be a time in UTC such as 2030-01-31T12:00:00Z");
            return general;
        };
        if own <= self.now {
            self.warnings.push(FieldError {
                path: fields.path_of(KEY),
                code: "already_expired",
                message: "lies in the past, so the route answers 410".to_owned(),
            });
        }
        Some(general.map_or(own, |general| general.min(own)))
    }
}

/// The two shapes of a document.
#[derive(Clone, Copy)]
enum Shape {
    Map,
    Versioned,
}

const NAME_RULE: &str = "is not a server name: use 1 to 64 letters, digits and '._-', beginning with \
                         a letter or digit";

pub(crate) fn is_server_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(inner)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn expected(fields: &mut Fields<'_>) -> Option<Expected> {
    const KEY: &str = "expected_revision";
    match fields.take(KEY)? {
        Node::Integer(number) => Some(Expected::Number(number)),
        Node::Text(text) => Some(Expected::Exactly(text.expose().clone())),
        _ => {
            fields.note(KEY, "bad_type", "must be a revision, such as 41 or \"1f2e3d4c-41\"");
            None
        }
    }
}

fn headers(fields: &mut Fields<'_>) -> HeaderInjection {
    let mut injection = HeaderInjection::default();
    let Some(node) = fields.take("headers") else { return injection };
    let path = fields.path_of("headers");
    let Node::Object(entries) = node else {
        fields.note("headers", "bad_type", "must be a JSON object of names and texts");
        return injection;
    };
    for (name, value) in entries {
        let path = child(&path, &name);
        let Node::Text(value) = value else {
            fields.faults().note(&path, "bad_type", "must be a text");
            continue;
        };
        let bytes = Secret::new(value.expose().as_bytes().to_vec());
        if let Err(error) = injection.add(&name, bytes) {
            fields.faults().note(&path, error.code(), error.to_string());
        }
    }
    injection
}

fn methods(fields: &mut Fields<'_>) -> Option<Vec<Method>> {
    const KEY: &str = "allow_methods";
    let texts = fields.texts(KEY, MAX_LIST)?;
    let mut methods = Vec::new();
    for (position, text) in texts.iter().enumerate() {
        if let Some(method) = method(text.expose()) {
            methods.push(method);
        } else {
            let path = child(&fields.path_of(KEY), &position.to_string());
            let message = "must be a method in capital letters, not CONNECT or TRACE";
            fields.faults().note(&path, "bad_method", message);
        }
    }
    Some(methods)
}

/// Methods are case-sensitive (RFC 9110 section 9.1): `get` would never match anything.
fn method(text: &str) -> Option<Method> {
    let method = Method::from_bytes(text.as_bytes()).ok()?;
    let shouted = !text.bytes().any(|byte| byte.is_ascii_lowercase());
    (shouted && !matches!(method, Method::CONNECT | Method::TRACE)).then_some(method)
}

fn paths(fields: &mut Fields<'_>) -> Option<PathGlobs> {
    const KEY: &str = "allow_paths";
    let texts = fields.texts(KEY, MAX_LIST)?;
    let patterns = texts.iter().map(|text| text.expose().clone()).collect();
    PathGlobs::parse(patterns)
        .map_err(|(position, error)| {
            let path = child(&fields.path_of(KEY), &position.to_string());
            fields.faults().note(&path, "bad_glob", error.to_string());
        })
        .ok()
}

fn strip(fields: &mut Fields<'_>) -> Vec<HeaderName> {
    const KEY: &str = "strip_request_headers";
    let mut names = Vec::new();
    for (position, text) in fields.texts(KEY, MAX_LIST).unwrap_or_default().iter().enumerate() {
        match HeaderName::from_bytes(text.expose().as_bytes()) {
            Ok(name) if name != http::header::HOST => names.push(name),
            _ => {
                let path = child(&fields.path_of(KEY), &position.to_string());
                fields.faults().note(&path, "bad_header_name", "must be a header name, not Host");
            }
        }
    }
    names
}

#[cfg(test)]
mod tests;
