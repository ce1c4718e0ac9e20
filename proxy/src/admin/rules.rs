//! `/rules`: show, replace, clear.
//!
//! Faults of a document are told by path; its values are never repeated, in answers or in the log.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_MATCH};
use http::{Request, Response, StatusCode};
use http_body::Body as HttpBody;
use serde_json::{Value, json};
use workspace_common::body::{self, Body, BodyError, BoxError};
use workspace_common::problem::Problem;
use workspace_common::stream::Peer;

use super::action::RulesAction;
use crate::rules::document::{self, Document, DocumentError};
use crate::rules::store::{Conflict, Expected};
use crate::rules::{RuleSet, RuleStore, view};

/// Largest document.
const MAX_DOCUMENT: usize = 1024 * 1024;

/// Does what was asked; the caller has been authorised.
pub(super) async fn answer<B>(
    store: &RuleStore,
    action: RulesAction,
    request: Request<B>,
    peer: &Peer,
) -> Result<Response<Body>, Problem>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let expected = if_match(request.headers())?;
    let now = SystemTime::now();
    let document = match action {
        RulesAction::Show => return Ok(show(&store.snapshot(), now)),
        RulesAction::Clear => Document::default(),
        RulesAction::Replace => {
            let content = body::collect_limited(request.into_body(), MAX_DOCUMENT)
                .await
                .map_err(|error| unreadable(&error))?;
            match document::parse(&content, store.limits(), now) {
                Ok(document) => document,
                Err(error) => return Ok(faulty(&error, peer)),
            }
        }
    };
    Ok(apply(store, document, expected.as_ref(), peer))
}

fn show(set: &RuleSet, now: SystemTime) -> Response<Body> {
    success(set, &view::of_set(set, now))
}

fn apply(
    store: &RuleStore,
    mut document: Document,
    expected: Option<&Expected>,
    peer: &Peer,
) -> Response<Body> {
    let warnings: Vec<Value> =
        std::mem::take(&mut document.warnings).iter().map(|warning| warning.to_json()).collect();
    match store.replace(document, expected) {
        Ok(set) => {
            let revision = set.revision().to_string();
            tracing::info!(%peer, rules.revision = revision, rules.servers = set.len(), "rules replaced");
            let content =
                json!({ "revision": revision, "server_count": set.len(), "warnings": warnings });
            success(&set, &content)
        }
        Err(conflict) => conflicting(&conflict),
    }
}

fn success(set: &RuleSet, content: &Value) -> Response<Body> {
    let mut response = Response::new(body::json(content));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", set.revision())) {
        headers.insert(ETAG, tag);
    }
    response
}

fn conflicting(conflict: &Conflict) -> Response<Body> {
    let problem = Problem::new(StatusCode::CONFLICT, "revision_conflict", conflict.to_string());
    extended(&problem, "revision", json!(conflict.revision.to_string()))
}

fn faulty(error: &DocumentError, peer: &Peer) -> Response<Body> {
    tracing::warn!(%peer, %error, "rules document refused");
    match error {
        DocumentError::Json(json) => Problem::bad_request(json.code(), json.to_string()).response(),
        DocumentError::Invalid(faults) => {
            let faults = faults.iter().map(|fault| fault.to_json()).collect();
            let problem = Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid_rules",
                "the document has faults and nothing of it was applied; see errors",
            );
            extended(&problem, "errors", Value::Array(faults))
        }
    }
}

/// A problem document with one member more (RFC 9457 section 3.2).
fn extended(problem: &Problem, member: &str, value: Value) -> Response<Body> {
    let (head, _) = problem.response().into_parts();
    let mut content = json!({
        "type": "about:blank",
        "status": problem.status.as_u16(),
        "title": problem.status.canonical_reason(),
        "code": problem.code,
        "detail": problem.detail,
    });
    if let Value::Object(members) = &mut content {
        members.insert(member.to_owned(), value);
    }
    Response::from_parts(head, body::json(&content))
}

fn unreadable(error: &BodyError) -> Problem {
    match error {
        BodyError::TooLarge(limit) => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "document_too_large",
            format!("a rules document may have {limit} bytes at most"),
        ),
        BodyError::Failed(_) => Problem::bad_request("bad_body", "the body ended early"),
    }
}

/// The revision that the caller wants to replace. `*` asks for nothing: there is always a revision.
fn if_match(headers: &HeaderMap) -> Result<Option<Expected>, Problem> {
    let bad = || {
        let detail = "If-Match must be one revision in double quotes, as ETag gave it, or *";
        Problem::bad_request("bad_if_match", detail)
    };
    let mut values = headers.get_all(IF_MATCH).iter();
    let text = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().map_err(|_binary| bad())?.trim(),
        (Some(_), Some(_)) => return Err(bad()),
    };
    if text == "*" {
        return Ok(None);
    }
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or_else(bad)?;
    if inner.is_empty() || inner.contains(['"', ',']) {
        return Err(bad());
    }
    Ok(Some(Expected::Exactly(inner.to_owned())))
}
