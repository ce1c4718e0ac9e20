//! What the API says of a command: its start and its end. Pure.

use std::{os::unix::process::ExitStatusExt, time::Duration};

use serde_json::{Map, Value, json};

use super::signal;
use crate::supervise::{
    output::Stream,
    process::{Process, State},
    task::Outcome,
    tree::Survivor,
};

/// A JSON object in the making.
pub(crate) type Fields = Map<String, Value>;

/// What a start is answered with: id and process id, and what came of the limits if there were any.
pub(crate) fn started(process: &Process) -> Fields {
    let mut fields = Fields::from_iter([
        ("id".into(), (*process.id).into()),
        ("pid".into(), process.pid.into()),
    ]);
    if !process.verdicts.is_empty() {
        fields.insert("limits".into(), json!(process.verdicts));
    }
    fields
}

/// What is said about the end, wherever it is said.
pub(crate) fn outcome(process: &Process, outcome: &Outcome) -> Fields {
    let mut fields = started(process);
    fields.extend(ending(outcome));
    fields
}

/// What is known only at the end.
pub(crate) fn ending(outcome: &Outcome) -> Fields {
    let ended = outcome.ended.as_ref();
    let usage = ended.map(|ended| {
        json!({
            "user_ms": millis(ended.user),
            "system_ms": millis(ended.system),
            "max_rss_bytes": ended.max_rss_bytes,
        })
    });
    Fields::from_iter([
        ("exit_code".into(), ended.and_then(|ended| ended.status.code()).into()),
        ("signal".into(), ended.and_then(|ended| ended.status.signal()).map(signal::name).into()),
        ("timed_out".into(), outcome.timed_out().into()),
        ("duration_ms".into(), millis(outcome.duration).into()),
        ("usage".into(), usage.into()),
        ("left_running".into(), outcome.left_running.into()),
        ("killed".into(), outcome.killed.into()),
        ("survivors".into(), survivors(&outcome.survivors)),
    ])
}

/// Processes that could not be ended, by name.
pub(crate) fn survivors(survivors: &[Survivor]) -> Value {
    survivors.iter().map(|Survivor { pid, name }| json!({"pid": pid, "name": name})).collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The last event of a stream: how the command ended, or that it runs still.
pub(crate) fn last_event(process: &Process, state: &State) -> Value {
    match state {
        State::Running => json!({"event": "open"}),
        State::Ended(outcome) => {
            let mut event = self::outcome(process, outcome);
            event.insert("event".into(), "exited".into());
            event.extend(written(process));
            Value::Object(event)
        }
        State::Lost => error_event("internal", "the agent lost the command"),
    }
}

/// An event that ends a stream before the end of the command is known.
pub(crate) fn error_event(code: &str, detail: &str) -> Value {
    json!({"event": "error", "code": code, "detail": detail})
}

/// How much has been written to both streams.
pub(crate) fn written(process: &Process) -> [(String, Value); 2] {
    let written = |stream| process.output().written(stream).into();
    [
        ("stdout_bytes".into(), written(Stream::Stdout)),
        ("stderr_bytes".into(), written(Stream::Stderr)),
    ]
}
