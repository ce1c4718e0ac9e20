//! What a sync would do: as the agent tells it, and as `--dry-run` shows it.

use std::{
    collections::HashMap,
    io::{self, Write},
    process::ExitCode,
};

use http::Response;
use hyper::body::Incoming;
use indicatif::HumanBytes;
use serde_json::{Value, json};

use super::{failure::Failure, progress::Format};
use crate::{
    files::{WorkspacePath, path::printable, transfer},
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

/// Bytes of files that the receiver has already, by their paths.
pub(super) type Spared = HashMap<WorkspacePath, u64>;

/// Shows a plan; removals only where they would be done.
pub(super) fn print(
    plan: &Plan,
    spared: &Spared,
    deletes: bool,
    format: Format,
) -> io::Result<ExitCode> {
    let shown = plan.changes.iter().filter(|c| deletes || !matches!(c, Change::Remove(_)));
    let mut output = io::stdout().lock();
    match format {
        Format::Text => {
            for change in shown {
                writeln!(output, "{} {}", word(change), change.entry().path)?;
            }
            print_spared(spared)?;
        }
        Format::Json => {
            let changes: Vec<Value> = shown.map(|change| described(change, spared)).collect();
            writeln!(output, "{}", json!({ "changes": changes }))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says how much of all of it the receiver has.
pub(super) fn print_spared(spared: &Spared) -> io::Result<()> {
    match spared.values().sum::<u64>() {
        0 => Ok(()),
        spared => writeln!(io::stderr(), "{} of it need not be sent", HumanBytes(spared)),
    }
}

pub(super) fn described(change: &Change, spared: &Spared) -> Value {
    let entry = change.entry();
    let spared = spared.get(&entry.path).copied().unwrap_or(0);
    json!({
        "change": word(change),
        "path": printable(entry.path.as_bytes()),
        "bytes": entry.node.size(),
        "spared": spared,
    })
}

pub(super) fn word(change: &Change) -> &'static str {
    match change {
        Change::Create(_) => "create",
        Change::Update(_) => "update",
        Change::Touch(_) => "touch",
        Change::Remove(_) => "remove",
        Change::Skip(_) => "skip",
    }
}
