//! Large files of a push that the agent has in another form.

use std::collections::HashMap;

use super::Push;
use crate::{
    client::{
        delta::{cut_both, is_large_update},
        failure::Failure,
        plan::Spared,
    },
    files::{WorkspacePath, path::printable},
    sync::{
        archive::{MAX_SKIPPED_NAMES, Report},
        delta::{Delta, MAX_CHUNKS},
        diff::Change,
    },
};

/// The deltas of a push, and the files that may have to be sent whole after all.
#[derive(Debug, Default)]
pub(super) struct Deltas {
    pub(super) by_path: HashMap<WorkspacePath, Delta>,
    files: Vec<Change>,
}

impl Deltas {
    /// Whether there is room for one more: the agent names so many that do not fit, and all the lists
    /// together are bounded as one is.
    fn has_room(&self, chunks: usize) -> bool {
        self.files.len() < MAX_SKIPPED_NAMES && chunks < MAX_CHUNKS
    }

    /// Bytes that are not sent.
    pub(super) fn spared(&self) -> u64 {
        self.by_path.values().map(Delta::spared).sum()
    }

    /// The same, file by file.
    pub(super) fn spared_by_path(&self) -> Spared {
        self.by_path.iter().map(|(path, delta)| (path.clone(), delta.spared())).collect()
    }

    /// The files that the agent says a delta did not fit.
    pub(super) fn stale(self, report: &Report) -> Vec<Change> {
        let is_stale =
            |change: &Change| report.stale.contains(&printable(change.entry().path.as_bytes()));
        self.files.into_iter().filter(is_stale).collect()
    }
}

impl Push<'_> {
    /// Finds out what of the large files among these changes the agent has.
    pub(super) async fn deltas(&self, changes: &[Change]) -> Result<Deltas, Failure> {
        let (mut deltas, mut chunks) = (Deltas::default(), 0);
        if self.whole_files {
            return Ok(deltas);
        }
        for change in changes.iter().filter(|change| is_large_update(change)) {
            if !deltas.has_room(chunks) {
                break;
            }
            let path = &change.entry().path;
            let Some(pair) = cut_both(self.client, &self.remote, &self.root, path).await? else {
                continue;
            };
            let delta = Delta::between(pair.local, &pair.remote);
            if delta.is_worth_it() {
                chunks += delta.steps.len();
                deltas.by_path.insert(path.clone(), delta);
                deltas.files.push(change.clone());
            }
        }
        Ok(deltas)
    }
}
