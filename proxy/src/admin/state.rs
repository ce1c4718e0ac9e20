//! Whether the proxy lives and whether it can do its work.

use std::time::SystemTime;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Map, Value, json};
use workspace_common::body::{self, Body};

use super::{AdminContext, RulesNeeded};

/// One part of the proxy that `/readyz` looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The name of the part.
    pub name: &'static str,
    /// How it is.
    pub state: CheckState,
}

/// How a part of the proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckState {
    /// It works.
    Ready,
    /// It does not work yet, or no longer. The word says what is missing.
    Waiting(&'static str),
    /// It is not configured, or there is nothing in it, and nothing waits for it.
    Unused,
}

impl CheckState {
    fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Waiting(what) => what,
            Self::Unused => "none",
        }
    }
}

pub(super) fn alive() -> Response<Body> {
    answer(StatusCode::OK, &json!({ "status": "ok" }))
}

/// 200 when every part is ready or unused, else 503. Kubernetes reads the status, people the body.
pub(super) fn ready(context: &AdminContext) -> Response<Body> {
    let mut checks = (context.readiness)();
    checks.push(Check { name: "rules", state: rules(context) });
    let ready = !checks.iter().any(|check| matches!(check.state, CheckState::Waiting(_)));
    let states: Map<String, Value> =
        checks.iter().map(|check| (check.name.to_owned(), check.state.word().into())).collect();
    let revision = context.rules.snapshot().revision().to_string();
    let (status, word) = if ready {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not_ready")
    };
    answer(status, &json!({ "status": word, "checks": states, "rules_revision": revision }))
}

/// A restart loses the rules; the orchestrator sees it here and sends them again.
fn rules(context: &AdminContext) -> CheckState {
    let set = context.rules.snapshot();
    let now = SystemTime::now();
    let any = set.rules().any(|rule| !rule.is_expired(now));
    match context.rules_needed {
        _ if any => CheckState::Ready,
        RulesNeeded::BeforeReady => CheckState::Waiting("waiting for the orchestrator"),
        RulesNeeded::Never => CheckState::Unused,
    }
}

fn answer(status: StatusCode, content: &Value) -> Response<Body> {
    let mut response = Response::new(body::json(content));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
