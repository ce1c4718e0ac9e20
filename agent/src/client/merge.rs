//! Push and pull between two sides that both change things: what both had when they last agreed is
//! kept in a file (`--base`), and tells who has changed what since.

mod base;
mod outcome;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, ValueEnum};
use http::{Method, Request, StatusCode};
use workspace_common::{body::empty, client::Client};

use super::{failure::Failure, progress::Direction, tree::Tree};
use crate::{
    files::{Root, WorkspacePath, transfer},
    sync::{
        manifest::{
            Entry,
            scan::{Scan, ScanOptions, Unfinished},
            wire::ManifestReader,
        },
        merge::{
            Verdict,
            walk::{Merged, Policy, Winner, merge},
        },
        pack::PackError,
    },
};
pub(super) use base::Base;
pub(super) use outcome::{Outcome, agreed, files_in_common, planned, print_plan};

/// Exit code: both sides have changed the same things, and these were left alone.
pub const EXIT_CONFLICT: u8 = 4;

/// How changes of both sides are told apart, and what becomes of conflicts.
#[derive(Debug, Clone, Default, Args)]
pub struct MergeArgs {
    /// Keep in FILE what both sides have in common, and move only what this side's source has
    /// changed since: what the other side has changed stays. FILE is made by the first run
    #[arg(long, value_name = "FILE")]
    pub base: Option<PathBuf>,
    /// What becomes of entries that both sides have changed since
    #[arg(long, value_enum, default_value = "fail", value_name = "HOW", requires = "base")]
    pub conflict: OnConflict,
}

/// What becomes of what both sides have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OnConflict {
    /// They are listed, and nothing at all is moved
    #[default]
    Fail,
    /// They are listed and left alone; the rest is moved
    Skip,
    /// This machine's wins
    Local,
    /// The workspace's wins
    Remote,
}

impl OnConflict {
    fn winner(self, direction: Direction) -> Winner {
        match (self, direction) {
            (Self::Fail | Self::Skip, _) => Winner::Nobody,
            (Self::Local, Direction::Push) | (Self::Remote, Direction::Pull) => Winner::Source,
            (Self::Local, Direction::Pull) | (Self::Remote, Direction::Push) => Winner::Target,
        }
    }
}

impl MergeArgs {
    /// The base that is wanted, for the directory `dir` of this machine.
    pub(super) fn base(&self, dir: &Path) -> Result<Option<Base>, Failure> {
        self.base.as_deref().map(|file| Base::outside_of(file, dir)).transpose()
    }
}

/// Both sides, and how they are compared.
pub(super) struct Sides<'s> {
    pub(super) client: &'s Client,
    pub(super) tree: &'s Tree,
    pub(super) remote: &'s WorkspacePath,
    /// This machine's directory; none if it has yet to be made.
    pub(super) local: Option<Arc<Root>>,
    pub(super) direction: Direction,
    pub(super) deletes: bool,
    /// What becomes of this machine's unfinished writes.
    pub(super) unfinished: Unfinished,
}

impl Sides<'_> {
    /// Compares both sides with their base.
    pub(super) async fn merge(
        &self,
        base: &Base,
        conflict: OnConflict,
    ) -> Result<Vec<Merged>, Failure> {
        let policy = Policy { winner: conflict.winner(self.direction), deletes: self.deletes };
        let (base, remote) = (base.read()?, self.remote_entries().await?);
        let local = self.local.clone();
        let options = ScanOptions { unfinished: self.unfinished, ..self.tree.options.clone() };
        let direction = self.direction;
        let merging = tokio::task::spawn_blocking(move || {
            let local = local.into_iter().flat_map(|root| Scan::new(root, options.clone()));
            let local = local.map(|entry| entry.map_err(PackError::from));
            let (base, remote) = (base.into_iter().map(Ok), remote.into_iter().map(Ok));
            match direction {
                Direction::Push => merge(base, local, remote, policy),
                Direction::Pull => merge(base, remote, local, policy),
            }
        });
        Ok(merging.await??)
    }

    /// What the workspace has; nothing if the directory has yet to be made there.
    async fn remote_entries(&self) -> Result<Vec<Entry>, Failure> {
        let mut request = Request::new(empty());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = self.tree.target("/v1/sync/manifest", self.remote, &[]);
        let answer = self.client.request_apart(request).await?;
        if answer.status() == StatusCode::NOT_FOUND && self.direction == Direction::Push {
            return Ok(Vec::new());
        }
        let answer = super::failure::expect_success(answer).await?;
        let (feed, intake) = transfer::upload();
        let reading = tokio::task::spawn_blocking(move || {
            ManifestReader::new(intake).collect::<Result<Vec<_>, _>>()
        });
        let (entries, ()) = tokio::join!(reading, feed.pump(answer.into_body()));
        Ok(entries?.map_err(PackError::from)?)
    }
}

/// Whether nobody has said who wins somewhere.
pub(super) fn has_conflicts(merged: &[Merged], conflict: OnConflict) -> bool {
    let open = matches!(conflict, OnConflict::Fail | OnConflict::Skip);
    open && merged.iter().any(is_conflict)
}

fn is_conflict(merged: &Merged) -> bool {
    matches!(merged.verdict, Verdict::Conflict { .. })
}
