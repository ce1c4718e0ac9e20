//! Prometheus metrics with bounded labels: modes, decisions, codes and directions, never hosts.

mod modes;

use std::sync::Arc;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder, exponential_buckets,
};

use crate::audit::mode::Mode;
use crate::metrics::modes::{Modes, OfMode};

/// All metrics of the request path. Every clone counts into the same values.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    modes: Arc<Modes>,
    requests: IntCounterVec,
    /// Tunnels that are open now.
    pub tunnels_active: IntGauge,
    /// Connections of workspaces that are open now, those that have become tunnels apart.
    pub connections_active: IntGauge,
    bytes: IntCounterVec,
    /// Payload bytes to the origin.
    pub bytes_up: IntCounter,
    /// Payload bytes to the workspace.
    pub bytes_down: IntCounter,
    /// Time to resolve a name.
    pub dns_seconds: Histogram,
    /// Time to connect, handshakes excluded.
    pub connect_seconds: Histogram,
    ttfb_seconds: HistogramVec,
    /// Limits that were reached, by their names.
    pub limit_hits: IntCounterVec,
    /// Answers in which an origin sent an injected credential back.
    pub leaks: IntCounter,
    /// Requests that passed only because the policy is in report mode, by the code they would have had.
    pub would_deny: IntCounterVec,
    /// Attempts to read the policy again, by result: `applied` or `refused`.
    pub policy_reloads: IntCounterVec,
    /// Audit lines lost because the log does not take them.
    pub audit_dropped: IntCounter,
}

/// Decision and code of a request that was let through.
const LET_THROUGH: (&str, &str) = ("allow", "ok");

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// When two metrics share a name, which is a mistake in this file.
    pub fn new() -> Result<Self, prometheus::Error> {
        let bytes = counters("bytes_total", "Payload bytes by direction", &["dir"])?;
        let metrics = Self {
            registry: Registry::new(),
            modes: Arc::default(),
            requests: counters("requests_total", "Requests", &["mode", "decision", "code"])?,
            tunnels_active: IntGauge::new("ws_proxy_tunnels_active", "Open tunnels")?,
            connections_active: IntGauge::new(
                "ws_proxy_connections_active",
                "Open connections of workspaces, tunnels apart",
            )?,
            bytes_up: bytes.with_label_values(&["up"]),
            bytes_down: bytes.with_label_values(&["down"]),
            bytes,
            dns_seconds: Histogram::with_opts(seconds("dns_seconds", "Name resolution")?)?,
            connect_seconds: Histogram::with_opts(seconds("connect_seconds", "TCP connect")?)?,
            ttfb_seconds: HistogramVec::new(
                seconds("ttfb_seconds", "Request to head of the answer")?,
                &["mode"],
            )?,
            limit_hits: counters("limit_hits_total", "Limits that were reached", &["limit"])?,
            leaks: IntCounter::new(
                "ws_proxy_leak_detected_total",
                "Answers that held an injected credential",
            )?,
            would_deny: counters("would_deny_total", "Passed in report mode", &["code"])?,
            policy_reloads: counters("policy_reloads_total", "Reloads of the policy", &["result"])?,
            audit_dropped: IntCounter::new(
                "ws_proxy_audit_dropped_total",
                "Audit lines lost to a slow log reader or a failing log",
            )?,
        };
        metrics.register()?;
        Ok(metrics)
    }

    fn register(&self) -> Result<(), prometheus::Error> {
        let registry = &self.registry;
        registry.register(Box::new(self.requests.clone()))?;
        registry.register(Box::new(self.tunnels_active.clone()))?;
        registry.register(Box::new(self.connections_active.clone()))?;
        registry.register(Box::new(self.bytes.clone()))?;
        registry.register(Box::new(self.dns_seconds.clone()))?;
        registry.register(Box::new(self.connect_seconds.clone()))?;
        registry.register(Box::new(self.ttfb_seconds.clone()))?;
        registry.register(Box::new(self.limit_hits.clone()))?;
        registry.register(Box::new(self.leaks.clone()))?;
        registry.register(Box::new(self.would_deny.clone()))?;
        registry.register(Box::new(self.policy_reloads.clone()))?;
        registry.register(Box::new(self.audit_dropped.clone()))
    }

    /// Counts a request.
    pub fn count(&self, mode: Mode, decision: &str, code: &str) {
        if (decision, code) == LET_THROUGH {
            self.of_mode(mode).ok.inc();
        } else {
            self.requests.with_label_values(&[mode.as_str(), decision, code]).inc();
        }
    }

    /// The values of a mode that every request touches.
    #[must_use]
    pub fn of_mode(&self, mode: Mode) -> &OfMode {
        let (name, (decision, code)) = (mode.as_str(), LET_THROUGH);
        self.modes.get_or_look_up(mode, || OfMode {
            ttfb_seconds: self.ttfb_seconds.with_label_values(&[name]),
            ok: self.requests.with_label_values(&[name, decision, code]),
        })
    }

    /// Where other modules register their own.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The text exposition of everything registered.
    #[must_use]
    pub fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}

fn counters(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(format!("ws_proxy_{name}"), help), labels)
}

/// From 0.5 ms to about 16 s: a local connect and a slow model are both in range.
fn seconds(name: &str, help: &str) -> Result<HistogramOpts, prometheus::Error> {
    let buckets = exponential_buckets(0.000_5, 2.0, 16)?;
    Ok(HistogramOpts::new(format!("ws_proxy_{name}"), help).buckets(buckets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_counted_is_shown() {
        let metrics = Metrics::new().unwrap();
        metrics.count(Mode::Connect, "deny", "not_allowed");
        metrics.count(Mode::Forward, "allow", "ok");
        metrics.count(Mode::Forward, "allow", "ok");
        let text = metrics.text();
        assert!(
            text.contains(
                r#"ws_proxy_requests_total{code="ok",decision="allow",mode="forward"} 2"#
            ),
            "{text}"
        );
        assert!(
            text.contains(
                r#"ws_proxy_requests_total{code="not_allowed",decision="deny",mode="connect"} 1"#
            ),
            "{text}"
        );
        assert!(text.contains("ws_proxy_tunnels_active 0"));
    }
}
