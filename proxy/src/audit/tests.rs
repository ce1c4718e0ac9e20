//! Every way in which a request can end leaves exactly one line.

use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::Receiver;

use http::StatusCode;
use prometheus::IntCounter;
use workspace_common::drain;

use super::*;
use crate::audit::writer::{Lines, PLACES};

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn lines_of(run: impl FnOnce(&Arc<Sinks>)) -> Vec<serde_json::Value> {
    let captured = Captured::default();
    let metrics = Metrics::new().unwrap();
    let lost = metrics.audit_dropped.clone();
    let writer = AuditWriter::to(captured.clone(), Lines::Wanted, lost).unwrap();
    let sinks = Arc::new(Sinks { writer, metrics, drain: drain::channel().1 });
    run(&sinks);
    sinks.writer.flush();
    let bytes = captured.0.lock().unwrap().clone();
    let text = String::from_utf8(bytes).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn connect(text: &str) -> Target {
    Target::Connect(HostPort::parse_authority(text, None).unwrap())
}

#[test]
fn a_finished_request_leaves_one_line() {
    let lines = lines_of(|sinks| {
        let mut audit = Audit::begin(sinks, &"unix:uid=1000", "CONNECT");
        audit.target(&connect("allowed.example:443"));
        audit.counts().up.fetch_add(7, Ordering::Relaxed);
        audit.finish(Outcome::Completed);
    });
    assert_eq!(lines.len(), 1);
    for (key, expected) in [
        ("mode", "connect"),
        ("host", "allowed.example"),
        ("decision", "allow"),
        ("code", "ok"),
        ("close_reason", "completed"),
        ("peer", "unix:uid=1000"),
    ] {
        assert_eq!(lines[0][key], expected, "{key}");
    }
    assert_eq!(lines[0]["bytes_up"], 7);
}

#[test]
fn a_refused_and_a_dropped_request_leave_one_line_each() {
    let lines = lines_of(|sinks| {
        let audit = Audit::begin(sinks, &"tcp", "GET");
        audit.refused(Refusal::AddressDenied(AddressClass::Metadata));
        drop(Audit::begin(sinks, &"tcp", "GET"));
    });
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["code"], "address_denied");
    assert_eq!(lines[0]["decision"], "deny");
    assert_eq!(lines[0]["addr_class"], "metadata");
    assert_eq!(lines[1]["close_reason"], "cancelled");
}

#[test]
fn a_failure_is_told_from_a_denial() {
    let lines = lines_of(|sinks| {
        Audit::begin(sinks, &"tcp", "GET").refused(Refusal::ConnectFailed);
    });
    assert_eq!(lines[0]["decision"], "error");
    assert_eq!(lines[0]["status"], 502);
}

/// A reader of the log that takes nothing while the other end of the channel lives.
struct Stuck(Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Ends with an error, when the sender is gone.
        self.0.recv().unwrap_or_default();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_queue_behind_a_stuck_reader_does_not_keep_the_process_from_ending() {
    let (release, stuck) = std::sync::mpsc::channel();
    let lost = IntCounter::new("lost", "lost").unwrap();
    let writer = AuditWriter::to(Stuck(stuck), Lines::Wanted, lost.clone()).unwrap();
    let line = || "line".repeat(1000);
    while lost.get() == 0 {
        writer.write(line().as_bytes(), None);
    }
    writer.flush();
    writer.write(line().as_bytes(), None);
    assert_eq!(lost.get(), 2, "the reader was not stuck");
    drop(release);
}

#[test]
fn a_required_line_has_its_place_before_its_request_is_served() {
    let (release, stuck) = std::sync::mpsc::channel();
    let metrics = Metrics::new().unwrap();
    let lost = metrics.audit_dropped.clone();
    let writer = AuditWriter::to(Stuck(stuck), Lines::Required, lost.clone()).unwrap();
    let sinks = Arc::new(Sinks { writer, metrics, drain: drain::channel().1 });
    let served: Vec<Audit> = (0..PLACES).map(|_| Audit::begin(&sinks, &"tcp", "GET")).collect();
    assert!(served.iter().all(|audit| audit.check_room().is_ok()));
    let refused = Audit::begin(&sinks, &"tcp", "GET");
    assert_eq!(refused.check_room(), Err(Refusal::AuditUnavailable));
    refused.refused(Refusal::AuditUnavailable);
    assert_eq!(lost.get(), 1, "only the line of what was not served");
    served.into_iter().for_each(|audit| audit.finish(Outcome::Completed));
    assert_eq!(lost.get(), 1);
    drop(release);
}

#[test]
fn what_the_stop_cuts_is_no_cancellation() {
    let lines = lines_of(|sinks| {
        let (trigger, drain) = drain::channel();
        let sinks = Arc::new(Sinks { drain, ..Sinks::clone(sinks) });
        let mut answered = Audit::begin(&sinks, &"tcp", "GET");
        answered.answered(StatusCode::OK);
        let broken = Audit::begin(&sinks, &"tcp", "GET");
        let unanswered = Audit::begin(&sinks, &"tcp", "GET");
        trigger.start();
        // Until the cut it is the client who leaves.
        drop(Audit::begin(&sinks, &"tcp", "GET"));
        trigger.cut();
        drop(answered);
        broken.finish(Outcome::UpstreamBroke);
        drop(unanswered);
    });
    let ends: Vec<_> = lines.iter().map(|line| (&line["code"], &line["close_reason"])).collect();
    assert_eq!(ends[0], (&"cancelled".into(), &"cancelled".into()));
    assert_eq!(ends[1], (&"ok".into(), &"proxy_stopped".into()));
    assert_eq!(ends[2], (&"ok".into(), &"proxy_stopped".into()));
    assert_eq!(ends[3], (&"draining".into(), &"refused".into()));
}

#[test]
fn a_panic_is_no_cancellation() {
    let lines = lines_of(|sinks| {
        let sinks = sinks.clone();
        let request = std::thread::spawn(move || {
            let _audit = Audit::begin(&sinks, &"tcp", "GET");
            panic!("as it happens");
        });
        assert!(request.join().is_err());
    });
    assert_eq!(
        (&lines[0]["decision"], &lines[0]["code"], &lines[0]["close_reason"]),
        (&"error".into(), &"panicked".into(), &"panicked".into())
    );
}
