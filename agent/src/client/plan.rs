//! What a sync would do: as the agent tells it, and as `--dry-run` shows it.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use http::Response;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{failure::Failure, progress::Format};
use crate::{
    files::{path::printable, transfer},
    sync::diff::{
        Change,
        wire::{Plan, read_plan},
    },
};

/// Reads the plan that an answer carries.
pub(super) async fn receive_plan(answer: Response<Incoming>) -> Result<Plan, Failure> {
    let (feed, intake) = transfer::upload();
    let reading = tokio::task::spawn_blocking(move || read_plan(intake));
    let (plan, ()) = tokio::join!(reading, feed.pump(answer.into_body()));
    Ok(plan?.map_err(crate::sync::pack::PackError::from)?)
}

/// Shows a plan; removals only where they would be done.
pub(super) fn print(plan: &Plan, deletes: bool, format: Format) -> io::Result<ExitCode> {
    let shown = plan.changes.iter().filter(|c| deletes || !matches!(c, Change::Remove(_)));
    let mut output = io::stdout().lock();
    match format {
        Format::Text => {
            for change in shown {
                writeln!(output, "{} {}", word(change), change.entry().path)?;
            }
        }
        Format::Json => {
            let changes: Vec<Value> = shown.map(described).collect();
            writeln!(output, "{}", json!({ "changes": changes }))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn described(change: &Change) -> Value {
    let entry = change.entry();
    json!({
        "change": word(change),
        "path": printable(entry.path.as_bytes()),
        "bytes": entry.node.size(),
    })
}

fn word(change: &Change) -> &'static str {
    match change {
        Change::Create(_) => "create",
        Change::Update(_) => "update",
        Change::Touch(_) => "touch",
        Change::Remove(_) => "remove",
        Change::Skip(_) => "skip",
    }
}
