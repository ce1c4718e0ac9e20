//! All commands, by id: those that run, and for a while those that have ended.
//!
//! Invariants: an id names one command as long as its entry is kept; entries that have ended are
//! bounded in number, in age and in the bytes of output that they hold, entries that run by the
//! engine's limit.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use workspace_common::drain::Drain;

use super::process::Process;

/// Output that entries which have ended hold together; beyond it the oldest go.
const MAX_ENDED_BYTES: usize = 64 << 20;
/// How often entries that are too old are looked for.
const PRUNE_INTERVAL: Duration = Duration::from_secs(10);

/// How many commands that have ended are kept, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    /// At most so many.
    pub count: usize,
    /// At most so long.
    pub time: Duration,
}

/// All commands that are not forgotten.
#[derive(Debug)]
pub struct Table {
    entries: Mutex<Entries>,
    keep: Keep,
}

#[derive(Debug, Default)]
struct Entries {
    by_id: HashMap<Arc<str>, Entry>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    /// Counts up with every start.
    number: u64,
    process: Arc<Process>,
    ended: Option<Instant>,
}

impl Table {
    /// An empty table, looked through for old entries until the stop.
    pub fn start(keep: Keep, drain: &Drain) -> Arc<Self> {
        let table = Arc::new(Self { entries: Mutex::default(), keep });
        let pruned = Arc::downgrade(&table);
        drain.spawn_background(prune_regularly(pruned));
        table
    }

    /// The command of this id.
    pub fn get(&self, id: &str) -> Option<Arc<Process>> {
        let mut entries = self.lock();
        entries.prune(self.keep, Instant::now());
        entries.by_id.get(id).map(|entry| entry.process.clone())
    }

    /// All commands, in the order of their starts.
    pub fn list(&self) -> Vec<Arc<Process>> {
        let mut entries = self.lock();
        entries.prune(self.keep, Instant::now());
        let mut listed: Vec<_> =
            entries.by_id.values().map(|entry| (entry.number, entry.process.clone())).collect();
        drop(entries);
        listed.sort_unstable_by_key(|(number, _)| *number);
        listed.into_iter().map(|(_, process)| process).collect()
    }

    /// Adds a command that has been started.
    pub(super) fn insert(&self, process: Arc<Process>) {
        let mut entries = self.lock();
        // Its number was given away: earlier commands that had it have no claim on its session.
        let namesakes = entries.by_id.values().filter(|entry| entry.process.pid == process.pid);
        namesakes.for_each(|entry| entry.process.tree.forget_session());
        entries.insert(process);
    }

    /// Notes that a command has ended, and forgets what is too much.
    pub(super) fn ended(&self, process: &Process) {
        let now = Instant::now();
        let mut entries = self.lock();
        if let Some(entry) = entries.by_id.get_mut(&process.id) {
            entry.ended = Some(now);
        }
        entries.prune(self.keep, now);
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // No code that holds the lock can leave the entries half-changed.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn prune_regularly(table: Weak<Table>) {
    loop {
        tokio::time::sleep(PRUNE_INTERVAL).await;
        let Some(table) = table.upgrade() else { return };
        table.lock().prune(table.keep, Instant::now());
    }
}

impl Entries {
    fn insert(&mut self, process: Arc<Process>) {
        let number = self.next;
        self.next += 1;
        self.by_id.insert(process.id.clone(), Entry { number, process, ended: None });
    }

    /// Forgets what has ended too long ago, and the oldest of what has ended as long as it is too
    /// much.
    fn prune(&mut self, keep: Keep, now: Instant) {
        let ended = self.by_id.values().filter_map(|Entry { number, process, ended }| {
            Some(Remains { at: (*ended)?, number: *number, bytes: process.output().size() })
        });
        let forgotten = forgotten(ended.collect(), keep, now);
        if !forgotten.is_empty() {
            self.by_id.retain(|_, entry| !forgotten.contains(&entry.number));
        }
    }
}

/// What counts of an entry that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Remains {
    at: Instant,
    number: u64,
    bytes: usize,
}

/// The numbers of those that are not to be kept.
fn forgotten(mut ended: Vec<Remains>, keep: Keep, now: Instant) -> HashSet<u64> {
    ended.sort_unstable_by(|a, b| b.cmp(a));
    let mut bytes = 0_usize;
    let beyond = ended.into_iter().enumerate().filter(|(newer, remains)| {
        bytes = bytes.saturating_add(remains.bytes);
        let old = now.saturating_duration_since(remains.at) >= keep.time;
        old || *newer >= keep.count || bytes > MAX_ENDED_BYTES
    });
    beyond.map(|(_, remains)| remains.number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept_of(ended: &[(u64, usize)], count: usize) -> Vec<u64> {
        let start = Instant::now();
        let remains = ended.iter().zip(0..).map(|(&(second, bytes), number)| {
            let at = start + Duration::from_secs(second);
            Remains { at, number, bytes }
        });
        let keep = Keep { count, time: Duration::from_secs(100) };
        let gone = forgotten(remains.collect(), keep, start + Duration::from_secs(200));
        (0..).take(ended.len()).filter(|number| !gone.contains(number)).collect()
    }

    #[test]
    fn what_has_ended_is_bounded_by_count_time_and_bytes_and_the_newest_stay() {
        assert_eq!(kept_of(&[], 2), [] as [u64; 0]);
        assert_eq!(kept_of(&[(150, 0), (190, 0)], 2), [0, 1]);
        assert_eq!(kept_of(&[(190, 0), (150, 0), (180, 0)], 2), [0, 2]);
        assert_eq!(kept_of(&[(100, 0), (101, 0)], 2), [1]);
        assert_eq!(kept_of(&[(150, 0)], 0), [] as [u64; 0]);
        let half = MAX_ENDED_BYTES / 2;
        assert_eq!(kept_of(&[(150, 1), (160, half), (170, half)], 9), [1, 2]);
    }
}
