//! Commands that no caller waits for, by id: those that run, and for a while those that have ended.
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

use super::{
    Engine, Refusal, Running,
    process::{ChosenId, Detached, Process, Recorder, State},
};

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

/// What a start came to.
#[derive(Debug)]
pub enum Start {
    /// The command has been started.
    New(Arc<Process>),
    /// It had been, by the same request.
    Repeated(Arc<Process>),
}

/// Why a command did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartRefusal {
    /// The id names a command that was asked for in other words.
    #[error("id '{0}' names another command, which was started by another request")]
    InUse(String),
    /// The id looks like one of the agent's own.
    #[error("id '{0}' begins like those that the agent makes itself: choose another")]
    Reserved(String),
    /// The engine did not start it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// All commands that were started detached and are not forgotten.
#[derive(Debug)]
pub struct Table {
    entries: Mutex<Entries>,
    /// Held while a command with a chosen id starts, so that of two requests with one id the second
    /// finds the first.
    starting: Mutex<()>,
    keep: Keep,
}

#[derive(Debug, Default)]
struct Entries {
    by_id: HashMap<String, Entry>,
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
        let table = Arc::new(Self { entries: Mutex::default(), starting: Mutex::default(), keep });
        let pruned = Arc::downgrade(&table);
        drain.spawn_background(prune_regularly(pruned));
        table
    }

    /// Starts a command, unless the same request has started it before.
    ///
    /// # Errors
    /// When it cannot start, or its id is taken.
    pub fn run(
        self: &Arc<Self>,
        engine: &Engine,
        mut detached: Detached,
    ) -> Result<Start, StartRefusal> {
        let Some((ChosenId(id), digest)) = detached.id.take() else {
            return Ok(Start::New(self.launch(engine, None, detached)?));
        };
        if engine.is_own(&id) {
            return Err(StartRefusal::Reserved(id));
        }
        let _held = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        match self.get(&id) {
            Some(known) if known.is_of(&digest) => Ok(Start::Repeated(known)),
            Some(_) => Err(StartRefusal::InUse(id)),
            None => Ok(Start::New(self.launch(engine, Some((id, digest)), detached)?)),
        }
    }

    fn launch(
        self: &Arc<Self>,
        engine: &Engine,
        id: Option<(String, [u8; 32])>,
        detached: Detached,
    ) -> Result<Arc<Process>, Refusal> {
        let (process, running) = Process::launch(engine, id, detached)?;
        let process = Arc::new(process);
        self.lock().insert(process.clone());
        engine.drain.spawn(attend(self.clone(), process.clone(), running));
        Ok(process)
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

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // No code that holds the lock can leave the entries half-changed.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the end of a command and notes it.
async fn attend(table: Arc<Table>, process: Arc<Process>, running: Running<Recorder>) {
    let state = match running.wait().await {
        Ok((outcome, _outputs)) => State::Ended(outcome),
        Err(error) => {
            tracing::error!(%error, id = process.id, "the task that owned a command failed");
            State::Lost
        }
    };
    let now = Instant::now();
    let mut entries = table.lock();
    // The entry first: whoever learns of the end finds the bounds kept.
    if let Some(entry) = entries.by_id.get_mut(&process.id) {
        entry.ended = Some(now);
    }
    entries.prune(table.keep, now);
    drop(entries);
    process.settle(state);
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
            Some(Remains { at: (*ended)?, number: *number, bytes: process.kept_bytes() })
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
