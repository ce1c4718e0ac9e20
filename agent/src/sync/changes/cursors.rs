//! The snapshots that are kept, by their cursors.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use http::StatusCode;
use tokio::sync::Notify;
use workspace_common::problem::Problem;

use super::{compare_by, snapshot::Snapshot};
use crate::{
    files::{Root, WorkspacePath, path::printable},
    sync::{diff::Criterion, pack::PackError, selection::Selection},
};

/// Snapshots that are kept; the oldest go first.
const MAX_KEPT: usize = 32;
/// Memory of all of them: some millions of entries.
const MAX_MEMORY: usize = 128 * 1024 * 1024;

/// What the cursors of one line of snapshots are about.
#[derive(Debug)]
pub struct Watched {
    /// Which part of the tree.
    pub selection: Selection,
}

/// The name of a snapshot: that of this life of the agent, and a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    boot: Arc<str>,
    number: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.boot, self.number)
    }
}

#[derive(Debug)]
struct Kept {
    cursor: Cursor,
    watched: Arc<Watched>,
    snapshot: Arc<Snapshot>,
}

/// All cursors.
#[derive(Debug)]
pub struct Cursors {
    boot: Arc<str>,
    next: AtomicU64,
    kept: Mutex<VecDeque<Kept>>,
    /// Told when something was pulled.
    progress: Notify,
    /// Whether the part that the newest cursor is about was pulled without one.
    saved: AtomicBool,
}

impl Cursors {
    /// None yet, in the life of the agent that is named so.
    pub fn new(boot: &str) -> Self {
        Self {
            boot: boot.into(),
            next: AtomicU64::new(0),
            kept: Mutex::default(),
            progress: Notify::new(),
            saved: AtomicBool::new(false),
        }
    }

    /// A cursor that nobody has yet.
    pub fn reserve(&self) -> Cursor {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Cursor { boot: Arc::clone(&self.boot), number }
    }

    /// Keeps the snapshot of a cursor, and forgets the oldest ones.
    pub fn keep(&self, cursor: &Cursor, watched: Arc<Watched>, snapshot: Snapshot) {
        let mut kept = self.lock();
        kept.push_back(Kept { cursor: cursor.clone(), watched, snapshot: Arc::new(snapshot) });
        let memory = |kept: &VecDeque<Kept>| -> usize {
            kept.iter().map(|kept| kept.snapshot.memory()).sum()
        };
        while kept.len() > MAX_KEPT || kept.len() > 1 && memory(&kept) > MAX_MEMORY {
            kept.pop_front();
        }
    }

    /// The snapshot of a cursor.
    ///
    /// # Errors
    /// 410 when it is kept no more, or was given out by an agent before this one.
    pub fn find(&self, cursor: &[u8]) -> Result<(Arc<Watched>, Arc<Snapshot>), Problem> {
        let kept = self.lock();
        let found = kept.iter().find(|kept| kept.cursor.to_string().as_bytes() == cursor);
        let found = found.map(|kept| (Arc::clone(&kept.watched), Arc::clone(&kept.snapshot)));
        found.ok_or_else(|| {
            let detail = format!(
                "the cursor '{}' is not known, or no more: the agent has started anew, or has given \
                 out many since. What has changed since then cannot be told: compare everything \
                 (pull with a manifest), and ask for a new cursor before",
                printable(cursor)
            );
            Problem::new(StatusCode::GONE, "unknown_cursor", detail)
        })
    }

    /// Notes that a client has got what changed since a cursor.
    pub fn note_progress(&self) {
        self.progress.notify_one();
    }

    /// Notes that a client has got a directory as it is, without a cursor.
    pub fn note_pull(&self, path: &WorkspacePath) {
        let covered =
            self.newest().is_some_and(|(watched, _)| watched.selection.path.starts_with(path));
        if covered {
            self.saved.store(true, Ordering::Relaxed);
            self.note_progress();
        }
    }

    /// Resolves when everything that has changed since the newest cursor was pulled; at once where
    /// nobody has asked for changes. Pulls without a cursor count from now on.
    pub async fn all_pulled(&self, root: &Arc<Root>) {
        self.saved.store(false, Ordering::Relaxed);
        while let Some((watched, snapshot)) = self.newest() {
            let root = Arc::clone(root);
            let looked =
                tokio::task::spawn_blocking(move || has_changed(&root, &watched, snapshot)).await;
            // What cannot be looked at cannot be waited for.
            if self.saved.load(Ordering::Relaxed) || !matches!(looked, Ok(Ok(true))) {
                return;
            }
            self.progress.notified().await;
        }
    }

    fn newest(&self) -> Option<(Arc<Watched>, Arc<Snapshot>)> {
        let kept = self.lock();
        let newest = kept.iter().max_by_key(|kept| kept.cursor.number)?;
        Some((Arc::clone(&newest.watched), Arc::clone(&newest.snapshot)))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there is something that nobody has got. What changed a moment before the snapshot was taken
/// went with it.
fn has_changed(root: &Root, watched: &Watched, snapshot: Arc<Snapshot>) -> Result<bool, PackError> {
    let root = Arc::new(root.subroot(&watched.selection.path)?);
    let (mut found, _) = compare_by(Criterion::KnownStamp, root, watched, snapshot);
    found.next().transpose().map(|change| change.is_some())
}
