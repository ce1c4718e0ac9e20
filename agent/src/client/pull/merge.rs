//! A pull with a base: only what the workspace has changed since.
//!
//! The agent compares what it has with the manifest that it is sent. So that it sends what is to be
//! taken and nothing else, that manifest says of everything else that it is here as it is there; and
//! what comes is only taken where it is wanted, and where this side still has what was compared.

use std::{process::ExitCode, sync::Arc};

use workspace_common::client::Client;

use super::{Pull, PullArgs, open_existing};
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
        manifest::{Entry, scan::Unfinished},
        merge::walk::Merged,
        unpack::Wanted,
    },
};

/// Runs `pull --base`.
pub(super) async fn run(
    client: &Client,
    args: &PullArgs,
    base: &Base,
) -> Result<ExitCode, Failure> {
    let format = Format::from_json_flag(args.tree.json);
    let pull = Pull::start(client, args)?;
    let how = (args.tree.merge.conflict, Direction::Pull);
    let deletes = args.tree.delete.delete;
    let sides = Sides {
        client,
        tree: &pull.tree,
        remote: &pull.remote,
        local: open_existing(&pull.dir)?,
        direction: Direction::Pull,
        deletes,
        unfinished: if args.tree.dry_run { Unfinished::Leave } else { Unfinished::Remove },
    };
    let merged = sides.merge(base, how.0).await?;
    if args.tree.dry_run {
        let changes = planned(&merged, how.0);
        let spared = pull.spared(&changes).await?;
        return Ok(print_plan(&merged, (&changes, &spared), how, format)?);
    }
    let progress = Progress::start(Direction::Pull);
    if how.0 == OnConflict::Fail && has_conflicts(&merged, how.0) {
        return Ok(Outcome::of(Report::default(), &merged, how).finish(progress, format)?);
    }
    let mut report = match merged.iter().any(|merged| merged.taken) {
        true => {
            let wanted = Arc::new(wanted(&merged));
            pull.run(
                pretended(&merged).into_iter().map(Ok),
                Some(wanted),
                args.tree.delete,
                &progress,
            )
            .await?
        }
        false => Report::default(),
    };
    report.unchanged = files_in_common(&merged);
    base.write(agreed(&merged, &report))?;
    Ok(Outcome::of(report, &merged, how).finish(progress, format)?)
}

/// What the agent is told that is here.
fn pretended(merged: &[Merged]) -> Vec<Entry> {
    let told = |merged: &Merged| match merged.taken {
        true => merged.states.target.clone(),
        false => merged.states.source.clone(),
    };
    merged.iter().filter_map(told).collect()
}

fn wanted(merged: &[Merged]) -> Wanted {
    let taken = merged.iter().filter(|merged| merged.taken);
    taken.map(|merged| (merged.path.clone(), merged.states.target.clone())).collect()
}
