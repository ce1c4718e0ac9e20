//! What the agent counts, in the Prometheus text format. Labels are bounded: none holds anything
//! that a caller chose.

use std::time::Duration;

use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, core::Collector,
};

use crate::{isolate::Network, seccomp::Seccomp};

/// Upper bounds of the durations of commands, in seconds.
const DURATIONS: [f64; 9] = [0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 600.0, 3600.0];

/// All series of the agent.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    commands: IntCounterVec,
    durations: Histogram,
    requests: IntCounterVec,
    network: IntGaugeVec,
    seccomp: IntGaugeVec,
    forwards_open: IntGauge,
    forwards: IntCounterVec,
}

/// How a command ended, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandEnd {
    /// Exit code 0.
    Success,
    /// Another exit code or a signal.
    Failure,
    /// The deadline.
    TimedOut,
    /// Its client went away, or the agent is stopping.
    Cancelled,
}

impl CommandEnd {
    fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Metrics {
    /// Registers every series.
    ///
    /// # Errors
    /// Never in practice: only when two series had the same name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let histogram = HistogramOpts::new(
            "workspace_agent_command_duration_seconds",
            "Time from the start of a command to the exit of its leader",
        );
        Ok(Self {
            commands: register(
                &registry,
                counters("commands_total", "Commands, by how they ended", "end"),
            )?,
            durations: register(
                &registry,
                Histogram::with_opts(histogram.buckets(DURATIONS.to_vec())),
            )?,
            requests: register(
                &registry,
                counters("requests_total", "Requests, by class of status", "status"),
            )?,
            network: register(&registry, network_gauge())?,
            seccomp: register(&registry, seccomp_gauge())?,
            forwards_open: register(
                &registry,
                IntGauge::new(
                    "workspace_agent_forwarded_connections",
                    "Forwarded connections that are open",
                ),
            )?,
            forwards: register(
                &registry,
                counters("forwards_total", "Forwarded connections, by result", "result"),
            )?,
            registry,
        })
    }

    /// Counts a command that has run, and for how long.
    pub fn command_ended(&self, end: CommandEnd, duration: Duration) {
        self.commands.with_label_values(&[end.label()]).inc();
        self.durations.observe(duration.as_secs_f64());
    }

    /// Counts a command that did not start.
    pub fn command_refused(&self) {
        self.commands.with_label_values(&["refused"]).inc();
    }

    /// Counts an answered request.
    pub fn request_answered(&self, status: http::StatusCode) {
        let class = match status.as_u16() {
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.requests.with_label_values(&[class]).inc();
    }

    /// Says which network commands are in.
    pub fn network_is(&self, network: Network) {
        self.network.with_label_values(&[network.as_str()]).set(1);
    }

    /// Says whether commands are under the seccomp filter.
    pub fn seccomp_is(&self, seccomp: Seccomp) {
        self.seccomp.with_label_values(&[seccomp.as_str()]).set(1);
    }

    pub(crate) fn forward_opened(&self) {
        self.forwards.with_label_values(&["connected"]).inc();
        self.forwards_open.inc();
    }

    pub(crate) fn forward_closed(&self) {
        self.forwards_open.dec();
    }

    pub(crate) fn forward_refused(&self) {
        self.forwards.with_label_values(&["refused"]).inc();
    }

    pub(crate) fn forward_failed(&self) {
        self.forwards.with_label_values(&["unreachable"]).inc();
    }

    /// Everything as text.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "cannot write the metrics");
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The content type of [`Metrics::text`].
    pub const CONTENT_TYPE: &'static str = prometheus::TEXT_FORMAT;
}

fn counters(name: &str, help: &str, label: &str) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(format!("workspace_agent_{name}"), help), &[label])
}

fn network_gauge() -> Result<IntGaugeVec, prometheus::Error> {
    let help = "1 for the kind of network that commands are in";
    IntGaugeVec::new(Opts::new("workspace_agent_network", help), &["kind"])
}

fn seccomp_gauge() -> Result<IntGaugeVec, prometheus::Error> {
    let help = "1 for the state of the seccomp filter of commands";
    IntGaugeVec::new(Opts::new("workspace_agent_seccomp", help), &["state"])
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: Result<C, prometheus::Error>,
) -> Result<C, prometheus::Error> {
    let metric = metric?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_counted() {
        let metrics = Metrics::new().unwrap();
        metrics.command_ended(CommandEnd::Success, Duration::from_millis(10));
        metrics.command_refused();
        metrics.network_is(Network::Private);
        metrics.seccomp_is(Seccomp::Active);
        let text = metrics.text();
        assert!(text.contains("workspace_agent_commands_total{end=\"success\"} 1"), "{text}");
        assert!(text.contains("workspace_agent_command_duration_seconds_count 1"), "{text}");
        assert!(text.contains("workspace_agent_network{kind=\"private\"} 1"), "{text}");
        assert!(text.contains("workspace_agent_seccomp{state=\"active\"} 1"), "{text}");
    }
}
