//! Puts the management plane together: what it shows comes from the parts of the proxy.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus::{Gauge, IntGauge};
use workspace_common::drain::Drain;
use workspace_common::listen::BoundListener;
use workspace_common::serve::{ServeOptions, serve};
use workspace_common::token::BearerToken;

use crate::admin::{self, AdminContext, Check, CheckState, RulesNeeded};
use crate::context::Context;

/// Connections of orchestrators and probes at a time.
const MAX_CONNECTIONS: usize = 64;

/// What the management plane is given besides the context.
#[derive(Debug)]
pub struct Management {
    /// Needed for `/rules`.
    pub token: Option<BearerToken>,
    /// Whether readiness waits for rules.
    pub rules_needed: RulesNeeded,
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
    let gauges = Gauges::register(context)?;
    let (shown, looked_at) = (Arc::clone(context), Arc::clone(context));
    let service = admin::service(AdminContext {
        rules: context.rules.clone(),
        token: management.token,
        metrics: Box::new(move || {
            gauges.update(&shown);
            shown.sinks.metrics.text()
        }),
        readiness: Box::new(move || checks(&looked_at)),
        rules_needed: management.rules_needed,
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
    let policy =
        if context.policy.allow_count() > 0 { CheckState::Ready } else { CheckState::Unused };
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

/// Values that are looked up when they are asked for.
struct Gauges {
    rules: IntGauge,
    revision: IntGauge,
    credentials_expiry: Gauge,
    refresh_failures: IntGauge,
}

impl Gauges {
    fn register(context: &Context) -> Result<Self, prometheus::Error> {
        let gauges = Self {
            rules: IntGauge::new("ws_proxy_rules", "Rules in force")?,
            revision: IntGauge::new("ws_proxy_rules_revision", "Changes of the rules since start")?,
            credentials_expiry: Gauge::new(
                "ws_proxy_aws_credentials_expiry_seconds",
                "Seconds until the AWS credentials expire",
            )?,
            refresh_failures: IntGauge::new(
                "ws_proxy_aws_refresh_failures_total",
                "Failed attempts to get AWS credentials",
            )?,
        };
        let registry = context.sinks.metrics.registry();
        registry.register(Box::new(gauges.rules.clone()))?;
        registry.register(Box::new(gauges.revision.clone()))?;
        registry.register(Box::new(gauges.credentials_expiry.clone()))?;
        registry.register(Box::new(gauges.refresh_failures.clone()))?;
        Ok(gauges)
    }

    fn update(&self, context: &Context) {
        let rules = context.rules.snapshot();
        self.rules.set(i64::try_from(rules.len()).unwrap_or(i64::MAX));
        self.revision.set(i64::try_from(rules.revision().number()).unwrap_or(i64::MAX));
        if let Some(route) = &context.bedrock {
            let credentials = route.aws.credentials();
            let left = credentials
                .expires()
                .map(|end| end.duration_since(SystemTime::now()).unwrap_or_default().as_secs_f64());
            self.credentials_expiry.set(left.unwrap_or(f64::INFINITY));
            self.refresh_failures.set(i64::try_from(credentials.failures()).unwrap_or(i64::MAX));
        }
    }
}
