//! The management plane: rules in, state out. It is served on listeners of its own.
//!
//! `/rules`, `/policy` and `/explain` need the token. `/healthz`, `/readyz` and `/metrics` need none: probes and scrapers have
//! no business with the token that can rewrite credentials, and what they get holds no host name and
//! no secret. A request that a browser made is refused whatever it asks: nobody manages a proxy from
//! a web page, but a web page may try (DNS rebinding, cross-site requests). For the same reason a
//! `Host` that is a name has to be a known one.
//!
//! Invariant: without a configured token nothing can be read from or written to `/rules`.

mod action;
mod explain;
mod host;
mod rules;
mod state;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, ORIGIN};
use http::{Request, Response, StatusCode};
use http_body::Body as HttpBody;
use serde_json::Value;
use workspace_common::body::{self, Body, BoxError};
use workspace_common::problem::Problem;
use workspace_common::stream::Peer;
use workspace_common::token::BearerToken;

use self::action::{Action, NoAction};
pub use self::host::OwnNames;
pub use self::state::{Check, CheckState};
use crate::explain::Asked;
use crate::rules::RuleStore;

/// The text of all metrics in the Prometheus exposition format.
pub type MetricsText = dyn Fn() -> String + Send + Sync;
/// The state of the parts that have to be up, apart from the rules.
pub type ReadinessChecks = dyn Fn() -> Vec<Check> + Send + Sync;

/// Whether the proxy is ready before the orchestrator has sent rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RulesNeeded {
    /// It is: the policy alone is of use.
    #[default]
    Never,
    /// It is not: a workspace must not start without its routes.
    BeforeReady,
}

/// What the management plane works on.
pub struct AdminContext {
    /// The rules in force.
    pub rules: RuleStore,
    /// The token that `/rules` needs; without one it is closed.
    pub token: Option<BearerToken>,
    /// Renders `/metrics`.
    pub metrics: Box<MetricsText>,
    /// Looks at the other parts for `/readyz`.
    pub readiness: Box<ReadinessChecks>,
    /// Whether `/readyz` waits for rules.
    pub rules_needed: RulesNeeded,
    /// The policy in force.
    pub policy: Box<dyn PolicyView>,
    /// The names by which the management plane may be called.
    pub hosts: OwnNames,
}

/// What may be seen of the policy: never a change of it.
pub trait PolicyView: Send + Sync {
    /// The policy in numbers.
    fn summary(&self) -> Value;
    /// What it decides about a request, and with `resolve` what the address guard says of its host.
    fn explain(
        &self,
        asked: Asked,
        resolve: bool,
    ) -> Pin<Box<dyn Future<Output = Value> + Send + '_>>;
}

impl fmt::Debug for AdminContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminContext")
            .field("rules", &self.rules)
            .field("token", &self.token)
            .field("rules_needed", &self.rules_needed)
            .finish_non_exhaustive()
    }
}

/// The answer to one request, as `workspace_common::serve` wants it.
pub type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// The handler to serve a management listener with.
pub fn service<B>(
    context: AdminContext,
) -> impl Fn(Request<B>, Peer) -> Answer + Clone + Send + Sync + 'static
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let context = Arc::new(context);
    move |request, peer| {
        let context = Arc::clone(&context);
        Box::pin(async move { handle(&context, request, peer).await })
    }
}

/// Answers a request; never fails.
async fn handle<B>(context: &AdminContext, request: Request<B>, peer: Peer) -> Response<Body>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut response = match act(context, request, &peer).await {
        Ok(response) => response,
        Err(refused) => refused.response(),
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Why a request to the management plane is refused, apart from faults of its document.
enum Refused {
    Problem(Problem),
    MethodNotAllowed(&'static str),
}

impl Refused {
    fn response(self) -> Response<Body> {
        match self {
            Self::Problem(problem) => problem.response(),
            Self::MethodNotAllowed(allow) => {
                let detail = format!("this path answers {allow} only");
                let problem =
                    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
                let mut response = problem.response();
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
                response
            }
        }
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

async fn act<B>(
    context: &AdminContext,
    request: Request<B>,
    peer: &Peer,
) -> Result<Response<Body>, Refused>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    refuse_browsers(request.headers())?;
    context.hosts.check(&request)?;
    match Action::of(request.method(), request.uri().path()) {
        Ok(Action::Alive) => Ok(state::alive()),
        Ok(Action::Ready) => Ok(state::ready(context)),
        Ok(Action::Metrics) => Ok(metrics(context)),
        Ok(Action::Rules(change)) => {
            authorize(context, request.headers())?;
            Ok(rules::answer(&context.rules, change, request, peer).await?)
        }
        Ok(Action::Policy) => {
            authorize(context, request.headers())?;
            Ok(explain::show(&*context.policy))
        }
        Ok(Action::Explain) => {
            authorize(context, request.headers())?;
            Ok(explain::explain(&*context.policy, request).await?)
        }
        Err(NoAction::Path) => Err(Problem::no_such_endpoint(request.uri().path()).into()),
        Err(NoAction::Method { allow }) => Err(Refused::MethodNotAllowed(allow)),
    }
}

/// Browsers send `Origin` with every request that can change something, and fetch metadata with all.
fn refuse_browsers(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site") {
        let detail = "requests made by a web page are refused";
        return Err(Problem::new(StatusCode::FORBIDDEN, "browser_refused", detail));
    }
    Ok(())
}

fn authorize(context: &AdminContext, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(token) = &context.token else {
        let detail = "no management token is configured, so this is closed; start the proxy \
                      with --admin-token-file";
        return Err(Problem::new(StatusCode::FORBIDDEN, "no_admin_token", detail));
    };
    token.authorize(headers).map_err(|_unauthorized| Problem::unauthorized())
}

fn metrics(context: &AdminContext) -> Response<Body> {
    let mut response = Response::new(body::full((context.metrics)()));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
pub(crate) mod tests;
