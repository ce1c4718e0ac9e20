//! Reading directories ahead of the one who walks.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use super::{
    Entry, Node, ScanOptions,
    read::{Reading, read},
};
use crate::{
    files::{FileError, Root, WorkspacePath},
    sync::ignore::IgnoreFiles,
};

/// Entries that are read and not asked for yet; helpers rest beyond it.
const MAX_HELD: usize = 32 * 1024;
/// More helpers than this gain nothing: the kernel's locks on directories are what is waited for.
const MAX_HELPERS: usize = 4;
/// Directories that have to be waiting before a helper is worth its start.
const WORTH_A_HELPER: usize = 8;

type Listing = Result<Vec<Entry>, FileError>;

/// How far a directory has come.
#[derive(Debug)]
enum Stage {
    Waiting,
    BeingRead,
    Read(Listing),
}

#[derive(Debug, Default)]
struct State {
    stages: HashMap<WorkspacePath, Stage>,
    /// The directories that wait, the next one last.
    stack: Vec<WorkspacePath>,
    held: usize,
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    root: Arc<Root>,
    options: ScanOptions,
    ignores: Option<IgnoreFiles>,
    state: Mutex<State>,
    changed: Condvar,
}

/// Directories that are read ahead. Helpers end when this is dropped.
#[derive(Debug)]
pub(super) struct Ahead {
    shared: Arc<Shared>,
    helpers: usize,
    /// Found out when the first one is wanted: it takes longer than to read a small tree.
    most_helpers: Option<usize>,
}

impl Ahead {
    pub(super) fn new(root: Arc<Root>, options: ScanOptions) -> Self {
        let ignores = options.gitignore.then(|| IgnoreFiles::new(Arc::clone(&root)));
        let (state, changed) = (Mutex::default(), Condvar::new());
        let shared = Shared { root, options, ignores, state, changed };
        Self { shared: Arc::new(shared), helpers: 0, most_helpers: None }
    }

    /// Has the directories of a listing read ahead.
    pub(super) fn want(&mut self, listing: &[Entry]) {
        let directories = listing.iter().filter(|entry| entry.node == Node::Directory);
        let mut state = self.shared.lock();
        for entry in directories.rev() {
            state.stages.insert(entry.path.clone(), Stage::Waiting);
            state.stack.push(entry.path.clone());
        }
        let waiting = state.stages.len();
        drop(state);
        if waiting >= WORTH_A_HELPER {
            self.start_helpers();
        }
        self.shared.changed.notify_all();
    }

    /// What is in a directory: as it was read ahead, or else as it is read now.
    pub(super) fn take(&self, directory: &WorkspacePath) -> Listing {
        let mut state = self.shared.lock();
        loop {
            match state.stages.remove(directory) {
                Some(Stage::Read(listing)) => {
                    state.held -= length(&listing);
                    self.shared.changed.notify_all();
                    return listing;
                }
                Some(Stage::BeingRead) => {
                    state.stages.insert(directory.clone(), Stage::BeingRead);
                    state = self.shared.wait(state);
                }
                Some(Stage::Waiting) | None => {
                    drop(state);
                    return self.shared.read(directory);
                }
            }
        }
    }

    fn start_helpers(&mut self) {
        let most = *self.most_helpers.get_or_insert_with(most_helpers);
        while self.helpers < most {
            let shared = Arc::clone(&self.shared);
            let started = thread::Builder::new().name("scan".into()).spawn(move || shared.help());
            // Without helpers the scan is slower, and that is all.
            self.helpers = if started.is_ok() { self.helpers + 1 } else { usize::MAX };
        }
    }
}

/// As many as there are cores beside the one who walks, and reads, too.
fn most_helpers() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    cores.saturating_sub(1).clamp(1, MAX_HELPERS)
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

fn length(listing: &Listing) -> usize {
    listing.as_ref().map_or(0, Vec::len)
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, directory: &WorkspacePath) -> Listing {
        let ignored = self.ignores.as_ref().map(|ignores| ignores.chain(directory));
        read(&self.root, &Reading { options: &self.options, ignored }, directory)
    }

    fn help(&self) {
        while let Some(directory) = self.next() {
            let listing = self.read(&directory);
            let mut state = self.lock();
            state.held += length(&listing);
            state.stages.insert(directory, Stage::Read(listing));
            drop(state);
            self.changed.notify_all();
        }
    }

    /// The next directory that nobody reads yet; `None` when the scan has ended.
    fn next(&self) -> Option<WorkspacePath> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let room = state.held < MAX_HELD;
            match if room { state.stack.pop() } else { None } {
                Some(directory) => {
                    // The one who walks may have been faster.
                    if let Some(stage @ Stage::Waiting) = state.stages.get_mut(&directory) {
                        *stage = Stage::BeingRead;
                        return Some(directory);
                    }
                }
                None => state = self.wait(state),
            }
        }
    }
}
