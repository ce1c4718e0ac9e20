//! The end of a command, noted in the table, in its output and in the bulletin.

use std::sync::Arc;

use super::super::{
    bulletin::{Bulletin, What},
    process::{Process, State},
    table::Table,
    task::Outcome,
};

/// Notes the end of a command when it is dropped, even by a panic of the task that owned it.
pub(super) struct EndRecord {
    process: Arc<Process>,
    table: Arc<Table>,
    bulletin: Bulletin,
    state: State,
}

impl EndRecord {
    /// That of a command that is about to run: lost, unless its outcome is filled in.
    pub(super) fn new(process: Arc<Process>, table: Arc<Table>, bulletin: Bulletin) -> Self {
        Self { process, table, bulletin, state: State::Lost }
    }

    /// Notes how it ended.
    pub(super) fn fill(&mut self, outcome: Outcome) {
        self.state = State::Ended(outcome);
    }
}

impl Drop for EndRecord {
    fn drop(&mut self) {
        let Self { process, table, bulletin, state } = self;
        let outcome = match state {
            State::Ended(outcome) => Some(outcome.clone()),
            State::Running | State::Lost => {
                tracing::error!(id = &*process.id, "the task that owned a command failed");
                None
            }
        };
        if outcome.as_ref().is_some_and(|outcome| outcome.left_running == 0) {
            process.tree.release_group();
        }
        // The entry first: whoever learns of the end finds the bounds kept.
        table.ended(process);
        process.settle(state.clone());
        bulletin.put_up(What::Exited { id: process.id.clone(), pid: process.pid, outcome });
    }
}
