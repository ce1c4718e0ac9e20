//! The audit record of one request: filled in as the request goes its way and written exactly once,
//! however the request ends.
//!
//! It holds no query, no path, no header value, no body and no resolved address.
//!
//! Invariant: [`Audit`] is consumed by `finish`; dropping it unfinished records a cancelled request, one
//! that the stop of the process has cut, or one whose task has panicked.

mod batch;
pub mod mode;
mod queue;
pub mod writer;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use workspace_common::drain::Drain;

use crate::audit::mode::Mode;
use crate::audit::queue::Place;
use crate::audit::writer::{AuditWriter, NoRoom};
use crate::classify::Target;
use crate::host::{Host, HostPort};
use crate::metrics::Metrics;
use crate::policy::Permit;
use crate::refusal::Refusal;
use crate::rules::document::is_server_name;
use crate::tunnel::client_hello::ClientHello;
use crate::upstream::guard::AddressClass;

thread_local! {
    /// Room for the line that is being made. What a line is made of is bounded, and so is this.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where records and counts go.
#[derive(Clone, Debug)]
pub struct Sinks {
    /// Lines.
    pub writer: AuditWriter,
    /// Counts.
    pub metrics: Metrics,
    /// Tells whether the stop of the process or its client has ended a request.
    pub drain: Drain,
}

/// How a request that was let through ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// To its end.
    Completed,
    /// The client went away.
    Cancelled,
    /// Nothing moved for the idle timeout.
    Idle,
    /// The origin broke off.
    UpstreamBroke,
    /// The rule that allowed it was replaced, removed or ran out.
    Revoked,
    /// The proxy stopped before the request ended.
    Stopped,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Idle => "idle_timeout",
            Self::UpstreamBroke => "upstream_broke",
            Self::Revoked => "rule_revoked",
            Self::Stopped => "proxy_stopped",
        }
    }
}

/// Payload bytes of a request, counted from several places at once.
#[derive(Clone, Debug, Default)]
pub struct ByteCounts {
    /// From the workspace to the origin.
    pub up: Arc<AtomicU64>,
    /// From the origin to the workspace.
    pub down: Arc<AtomicU64>,
}

/// The stable keys of a line.
#[derive(Debug, Default, Serialize)]
struct Record {
    ts: String,
    id: String,
    peer: String,
    mode: Mode,
    method: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheme: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    decision: &'static str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    would_deny: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    addr_class: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ech: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    aws_service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aws_region: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    injected: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    bytes_up: u64,
    bytes_down: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms_dns: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms_connect: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms_ttfb: Option<f64>,
    ms_total: f64,
    close_reason: &'static str,
}

/// The record in the making.
#[derive(Debug)]
pub struct Audit {
    sinks: Arc<Sinks>,
    started: Instant,
    counts: ByteCounts,
    record: Record,
    place: Result<Option<Place>, NoRoom>,
    finished: bool,
}

impl Audit {
    /// Begins the record of a request.
    #[must_use]
    pub fn begin(sinks: &Arc<Sinks>, peer: &dyn std::fmt::Display, method: &str) -> Self {
        // A method that is refused for its length must not fill the log.
        let method = method.chars().take(32).collect();
        let record = Record {
            ts: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            id: format!("{:016x}", fastrand::u64(..)),
            peer: peer.to_string(),
            method,
            ..Record::default()
        };
        Self {
            sinks: Arc::clone(sinks),
            started: Instant::now(),
            counts: ByteCounts::default(),
            record,
            place: sinks.writer.begin(),
            finished: false,
        }
    }

    /// Whether the line will be kept, where that is a condition of being served.
    ///
    /// # Errors
    /// [`Refusal::AuditUnavailable`] when it would not.
    pub fn check_room(&self) -> Result<(), Refusal> {
        self.place.as_ref().map(|_place| ()).map_err(|_no_room| Refusal::AuditUnavailable)
    }

    /// What was asked.
    pub fn target(&mut self, target: &Target) {
        match target {
            Target::Connect(at) => {
                self.record.mode = Mode::Connect;
                self.destination(at);
            }
            Target::Forward(forward) => {
                self.record.mode = Mode::Forward;
                self.record.scheme = Some(forward.scheme.as_str());
                self.destination(&forward.at);
            }
            Target::Mcp(path) => {
                self.record.mode = Mode::Route;
                // What cannot name a rule may be anything, a misplaced secret too.
                self.record.rule = is_server_name(&path.server).then(|| path.server.clone());
            }
            Target::Bedrock(_) => self.record.mode = Mode::Aws,
        }
    }

    /// Which rule allowed it, in place of the one asked for.
    pub fn permitted(&mut self, permit: &Permit) {
        self.record.rule = Some(permit.rule().to_string());
        if let Some(refusal) = permit.would_deny() {
            self.record.would_deny = Some(refusal.code());
            self.sinks.metrics.would_deny.with_label_values(&[refusal.code()]).inc();
        }
        self.destination(permit.at());
        if self.record.mode != Mode::Connect {
            self.record.scheme = Some(permit.scheme().as_str());
        }
    }

    fn destination(&mut self, at: &HostPort) {
        self.record.host = Some(at.host.to_string());
        self.record.port = Some(at.port);
    }

    /// The server name of the TLS handshake in a tunnel, in canonical form, and whether an encrypted
    /// hello came along. A name that is no host is not written down.
    pub fn hello(&mut self, hello: &ClientHello) {
        let name = hello.server_name.as_deref();
        self.record.sni = name.and_then(|name| Host::parse(name).ok()).map(|host| host.to_string());
        self.record.ech = hello.encrypted;
    }

    /// The AWS service and region that a request is signed for.
    pub fn aws(&mut self, service: &str, region: &str) {
        self.record.aws_service = Some(service.to_owned());
        self.record.aws_region = Some(region.to_owned());
    }

    /// The names of the headers that were injected.
    pub fn injected(&mut self, names: Vec<String>) {
        self.record.injected = names;
    }

    /// How long the name took.
    pub fn resolved(&mut self, elapsed: Duration) {
        self.record.ms_dns = Some(millis(elapsed));
        self.sinks.metrics.dns_seconds.observe(elapsed.as_secs_f64());
    }

    /// The upstream proxy that is asked for the connection.
    pub fn via(&mut self, proxy: &HostPort) {
        self.record.via = Some(proxy.to_string());
    }

    /// How long the connection took, and to what class of address, where that is known.
    pub fn connected(&mut self, elapsed: Duration, class: Option<AddressClass>) {
        self.record.ms_connect = Some(millis(elapsed));
        self.record.addr_class = class.map(AddressClass::as_str);
        self.sinks.metrics.connect_seconds.observe(elapsed.as_secs_f64());
    }

    /// The head of the answer is there.
    pub fn answered(&mut self, status: http::StatusCode) {
        let elapsed = self.started.elapsed();
        self.record.status = Some(status.as_u16());
        self.record.ms_ttfb = Some(millis(elapsed));
        let mode = self.sinks.metrics.of_mode(self.record.mode);
        mode.ttfb_seconds.observe(elapsed.as_secs_f64());
    }

    /// The counters to add payload bytes to.
    #[must_use]
    pub fn counts(&self) -> ByteCounts {
        self.counts.clone()
    }

    /// Ends the record of a request that was let through.
    pub fn finish(mut self, outcome: Outcome) {
        let outcome = match outcome {
            // The cut ends both connections of a request, and it may see that before the cut itself.
            Outcome::Cancelled | Outcome::UpstreamBroke if self.sinks.drain.is_cut() => {
                Outcome::Stopped
            }
            other => other,
        };
        if outcome == Outcome::Idle {
            self.limit_hit("idle_timeout");
        }
        self.write(&Verdict { decision: "allow", code: "ok", close_reason: outcome.as_str() });
    }

    /// Ends the record of a request that was refused or failed.
    pub fn refused(mut self, refusal: Refusal) {
        if let Refusal::AddressDenied(class) = refusal {
            self.record.addr_class = Some(class.as_str());
        }
        if let Some(limit) = refusal.limit() {
            self.limit_hit(limit);
        }
        // A tunnel that is refused for its handshake has been answered already.
        self.record.status.get_or_insert_with(|| refusal.status().as_u16());
        let decision = if refusal.is_denial() { "deny" } else { "error" };
        self.write(&Verdict { decision, code: refusal.code(), close_reason: "refused" });
    }

    /// Why a record is dropped that nobody has finished.
    fn unfinished(&self) -> Verdict {
        let cancelled = Outcome::Cancelled.as_str();
        // A panic unwinds through here: the only sign of it that the request leaves.
        let (decision, code, close_reason) = if std::thread::panicking() {
            ("error", "panicked", "panicked")
        } else if !self.sinks.drain.is_cut() {
            ("allow", cancelled, cancelled)
        // The cut may drop a connection before its request has heard of it.
        } else if self.record.status.is_some() {
            ("allow", "ok", Outcome::Stopped.as_str())
        } else {
            ("error", Refusal::Draining.code(), "refused")
        };
        Verdict { decision, code, close_reason }
    }

    fn limit_hit(&self, limit: &str) {
        self.sinks.metrics.limit_hits.with_label_values(&[limit]).inc();
    }

    fn write(&mut self, verdict: &Verdict) {
        self.finished = true;
        let metrics = &self.sinks.metrics;
        let record = &mut self.record;
        record.decision = verdict.decision;
        record.code = verdict.code;
        record.close_reason = verdict.close_reason;
        record.bytes_up = self.counts.up.load(Ordering::Relaxed);
        record.bytes_down = self.counts.down.load(Ordering::Relaxed);
        record.ms_total = millis(self.started.elapsed());
        metrics.count(record.mode, verdict.decision, verdict.code);
        metrics.bytes_up.inc_by(record.bytes_up);
        metrics.bytes_down.inc_by(record.bytes_down);
        let place = std::mem::replace(&mut self.place, Ok(None));
        LINE.with_borrow_mut(|line| {
            line.clear();
            match serde_json::to_writer(&mut *line, record) {
                Ok(()) => self.sinks.writer.write(line, place.ok().flatten()),
                Err(_unwritable) => metrics.audit_dropped.inc(),
            }
        });
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        if !self.finished {
            self.write(&self.unfinished());
        }
    }
}

struct Verdict {
    decision: &'static str,
    code: &'static str,
    close_reason: &'static str,
}

/// Milliseconds with microsecond resolution.
fn millis(elapsed: Duration) -> f64 {
    let micros = u32::try_from(elapsed.as_micros()).unwrap_or(u32::MAX);
    f64::from(micros) / 1000.0
}

#[cfg(test)]
mod tests;
