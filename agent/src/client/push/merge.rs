//! A push with a base: only what this side has changed since.

use std::{process::ExitCode, sync::Arc};

use workspace_common::client::Client;

use super::{Push, PushArgs};
use crate::{
    client::{
        failure::Failure,
        merge::{
            Base, OnConflict, Outcome, Sides, agreed, files_in_common, has_conflicts, planned,
            print_plan,
        },
        progress::{Direction, Format, Progress},
    },
    sync::{
        archive::Report,
        diff::{Change, removes_ignored},
        manifest::scan::Unfinished,
        merge::walk::Merged,
        removal::guard,
    },
};

/// Runs `push --base`.
pub(super) async fn run(
    client: &Client,
    args: &PushArgs,
    base: &Base,
) -> Result<ExitCode, Failure> {
    let format = Format::from_json_flag(args.tree.json);
    let push = Push::start(client, args)?;
    let how = (args.tree.merge.conflict, Direction::Push);
    let merged = push.sides().merge(base, how.0).await?;
    if args.tree.dry_run {
        let changes = planned(&merged, how.0);
        let spared = push.deltas(&changes).await?.spared_by_path();
        return Ok(print_plan(&merged, (&changes, &spared), how, format)?);
    }
    let progress = Progress::start(Direction::Push);
    if how.0 == OnConflict::Fail && has_conflicts(&merged, how.0) {
        return Ok(Outcome::of(Report::default(), &merged, how).finish(progress, format)?);
    }
    let changes = merged.iter().filter(|merged| merged.taken);
    let ignores = push.ignores();
    let changes = changes.filter_map(|merged| merged.states.change());
    let changes: Vec<_> =
        changes.filter(|change| !removes_ignored(change, ignores.as_ref())).collect();
    if !args.tree.delete.delete_any {
        guard_removals(&changes, &merged)?;
    }
    let mut report = push.send_differing(changes, &progress).await?;
    report.unchanged += files_in_common(&merged);
    base.write(agreed(&merged, &report))?;
    Ok(Outcome::of(report, &merged, how).finish(progress, format)?)
}

impl Push<'_> {
    fn sides(&self) -> Sides<'_> {
        Sides {
            client: self.client,
            tree: &self.tree,
            remote: &self.remote,
            local: Some(Arc::clone(&self.root)),
            direction: Direction::Push,
            deletes: self.deletes,
            unfinished: Unfinished::Leave,
        }
    }
}

fn guard_removals(changes: &[Change], merged: &[Merged]) -> Result<(), Failure> {
    let removals = changes.iter().filter(|change| matches!(change, Change::Remove(_))).count();
    let present = merged.iter().filter(|merged| merged.states.target.is_some()).count();
    let number = |count| u64::try_from(count).unwrap_or(u64::MAX);
    Ok(guard(number(removals), number(present))?)
}
