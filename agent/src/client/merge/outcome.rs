//! What came of a push or pull with a base, as it is printed.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde::Serialize;
use serde_json::{Value, json};

use super::{EXIT_CONFLICT, OnConflict, has_conflicts};
use crate::{
    client::{
        plan::{Spared, described, print_spared, word},
        progress::{Direction, Format, Progress, exit_code},
    },
    files::path::printable,
    sync::{
        archive::Report,
        diff::Change,
        manifest::{Entry, Node},
        merge::{Did, Verdict, walk::Merged},
    },
};

/// An entry that both sides have changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::client) struct Conflict {
    /// Its path, fit for printing.
    path: String,
    /// What this machine did.
    local: Did,
    /// What the workspace did.
    remote: Did,
    /// Who wins, if somebody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<&'static str>,
}

/// Everything that is told at the end.
#[derive(Debug, Default)]
pub(in crate::client) struct Outcome {
    /// What was moved.
    report: Report,
    conflicts: Vec<Conflict>,
    /// What only the other side has changed, and was left alone.
    left: u64,
    unresolved: bool,
}

impl Outcome {
    pub(in crate::client) fn of(
        report: Report,
        merged: &[Merged],
        (conflict, direction): (OnConflict, Direction),
    ) -> Self {
        let left = merged.iter().filter(|merged| merged.verdict == Verdict::Leave).count();
        Self {
            report,
            conflicts: conflicts(merged, conflict, direction),
            left: u64::try_from(left).unwrap_or(u64::MAX),
            unresolved: has_conflicts(merged, conflict),
        }
    }

    /// Takes the bar away and prints everything; for scripts as one object.
    pub(in crate::client) fn finish(
        &self,
        progress: Progress,
        format: Format,
    ) -> io::Result<ExitCode> {
        let done = match format {
            Format::Json => {
                progress.clear();
                writeln!(io::stdout(), "{}", self.as_json()?)?;
                exit_code(&self.report)
            }
            Format::Text => {
                let done = progress.finish(&self.report, format)?;
                print_conflicts(&mut io::stderr().lock(), &self.conflicts)?;
                print_left(self.left)?;
                done
            }
        };
        Ok(if self.unresolved { ExitCode::from(EXIT_CONFLICT) } else { done })
    }

    fn as_json(&self) -> io::Result<Value> {
        let mut all = serde_json::to_value(&self.report)?;
        if let Some(all) = all.as_object_mut() {
            all.insert("conflicts".to_owned(), json!(self.conflicts));
            all.insert("left".to_owned(), json!(self.left));
        }
        Ok(all)
    }
}

fn print_left(left: u64) -> io::Result<()> {
    match left {
        0 => Ok(()),
        left => writeln!(io::stderr(), "changed on the other side alone, left as it is: {left}"),
    }
}

fn conflicts(merged: &[Merged], conflict: OnConflict, direction: Direction) -> Vec<Conflict> {
    let kept = match conflict {
        OnConflict::Fail | OnConflict::Skip => None,
        OnConflict::Local => Some("local"),
        OnConflict::Remote => Some("remote"),
    };
    let told = |merged: &Merged| {
        let Verdict::Conflict { source, target } = merged.verdict else { return None };
        let (local, remote) = match direction {
            Direction::Push => (source, target),
            Direction::Pull => (target, source),
        };
        let path = printable(merged.path.as_bytes());
        Some(Conflict { path, local, remote, kept })
    };
    merged.iter().filter_map(told).collect()
}

fn print_conflicts(output: &mut impl Write, conflicts: &[Conflict]) -> io::Result<()> {
    for Conflict { path, local, remote, kept } in conflicts {
        let (local, remote) = (did(*local), did(*remote));
        let kept = kept.map(|kept| format!("; {kept} wins")).unwrap_or_default();
        writeln!(output, "conflict: {path} (local {local}, remote {remote}{kept})")?;
    }
    Ok(())
}

fn did(did: Did) -> &'static str {
    match did {
        Did::Created => "created",
        Did::Modified => "modified",
        Did::Replaced => "replaced",
        Did::Deleted => "deleted",
    }
}

/// What would be done: nothing where a conflict stops everything.
pub(in crate::client) fn planned(merged: &[Merged], conflict: OnConflict) -> Vec<Change> {
    let moves = conflict != OnConflict::Fail || !has_conflicts(merged, conflict);
    let taken = merged.iter().filter(|merged| moves && merged.taken);
    taken.filter_map(|merged| merged.states.change()).collect()
}

/// Shows what would be done, for `--dry-run`.
pub(in crate::client) fn print_plan(
    merged: &[Merged],
    (changes, spared): (&[Change], &Spared),
    (conflict, direction): (OnConflict, Direction),
    format: Format,
) -> io::Result<ExitCode> {
    let conflicts = conflicts(merged, conflict, direction);
    let mut output = io::stdout().lock();
    match format {
        Format::Json => {
            let changes: Vec<_> = changes.iter().map(|change| described(change, spared)).collect();
            writeln!(output, "{}", json!({ "changes": changes, "conflicts": conflicts }))?;
        }
        Format::Text => {
            for change in changes {
                writeln!(output, "{} {}", word(change), change.entry().path)?;
            }
            print_spared(spared)?;
            print_conflicts(&mut output, &conflicts)?;
        }
    }
    let open = has_conflicts(merged, conflict);
    Ok(if open { ExitCode::from(EXIT_CONFLICT) } else { ExitCode::SUCCESS })
}

/// The entries that both sides have in common when all is done, without those that the transfer names
/// as left out: what is not remembered is compared anew.
pub(in crate::client) fn agreed<'m>(
    merged: &'m [Merged],
    report: &'m Report,
) -> impl Iterator<Item = &'m Entry> {
    let all_named = u64::try_from(report.skipped.len()) == Ok(report.skipped_total);
    let failed = move |merged: &Merged| {
        let path = printable(merged.path.as_bytes());
        let skipped = report.skipped.iter().any(|skipped| skipped.path == path);
        let stayed = report.blocked.contains(&path) || report.raced.contains(&path);
        !all_named || skipped || stayed
    };
    let nothing_failed =
        report.skipped_total == 0 && report.blocked.is_empty() && report.raced.is_empty();
    merged.iter().filter_map(move |merged| match merged.taken {
        true if !nothing_failed && failed(merged) => merged.states.base.as_ref(),
        _ => merged.agreed(),
    })
}

/// Files that are the same on both sides.
pub(in crate::client) fn files_in_common(merged: &[Merged]) -> u64 {
    let is_common = |merged: &&Merged| {
        let file = |node: &Node| matches!(node, Node::File { .. });
        merged.verdict == Verdict::Agreed
            && merged.states.source.as_ref().is_some_and(|entry| file(&entry.node))
    };
    u64::try_from(merged.iter().filter(is_common).count()).unwrap_or(u64::MAX)
}
