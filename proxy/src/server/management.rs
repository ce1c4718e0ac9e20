//! Puts the management plane together: what it shows comes from the parts of the proxy.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use workspace_common::drain::Drain;
use workspace_common::listen::BoundListener;
use workspace_common::serve::{ServeOptions, serve};
use workspace_common::token::BearerToken;

use crate::admin::{self, AdminContext, Check, CheckState, OwnNames, RulesNeeded};
use crate::context::Context;
use crate::gauges;
use crate::server::policy_view::InForce;

/// Connections of orchestrators and probes at a time.
const MAX_CONNECTIONS: usize = 64;

/// What the management plane is given besides the context.
#[derive(Debug)]
pub struct Management {
    /// Needed for `/rules`.
    pub token: Option<BearerToken>,
    /// Whether readiness waits for rules.
    pub rules_needed: RulesNeeded,
    /// Names by which it may be called.
    pub hosts: OwnNames,
    /// Limit for a request head.
    pub header_timeout: Duration,
}

/// Serves the management plane on its listeners until `drain` says so, which is later than the
/// context's own.
///
/// # Errors
/// When a listener cannot be registered or the gauges cannot.
pub fn start(
    listeners: Vec<BoundListener>,
    context: &Arc<Context>,
    management: Management,
    drain: &Drain,
) -> Result<(), super::StartError> {
    let aws = context.bedrock.as_ref().map(|route| route.aws.clone());
    gauges::register(context.sinks.metrics.registry(), context.rules.clone(), aws)?;
    let (shown, looked_at) = (Arc::clone(context), Arc::clone(context));
    let service = admin::service(AdminContext {
        rules: context.rules.clone(),
        token: management.token,
        metrics: Box::new(move || shown.sinks.metrics.text()),
        readiness: Box::new(move || checks(&looked_at)),
        rules_needed: management.rules_needed,
        policy: Box::new(InForce(Arc::clone(context))),
        hosts: management.hosts,
    });
    let options = ServeOptions::new(MAX_CONNECTIONS, management.header_timeout);
    for listener in listeners {
        let listener = listener.into_async().map_err(super::StartError::Runtime)?;
        tracing::info!(address = %listener.address(), "listening for the orchestrator");
        drain.spawn(serve(listener, options.clone(), drain.clone(), service.clone()));
    }
    Ok(())
}

fn checks(context: &Context) -> Vec<Check> {
    let serving = if context.drain.is_draining() {
        CheckState::Waiting("draining")
    } else {
        CheckState::Ready
    };
    let policy = if context.policy.current().allow_count() > 0 {
        CheckState::Ready
    } else {
        CheckState::Unused
    };
    let aws = match &context.bedrock {
        None => CheckState::Unused,
        Some(route) if route.aws.credentials().is_ready(SystemTime::now()) => CheckState::Ready,
        Some(_) => CheckState::Waiting("waiting for credentials"),
    };
    vec![
        Check { name: "serving", state: serving },
        Check { name: "policy", state: policy },
        Check { name: "aws", state: aws },
    ]
}
