//! The one place that collects ended children (wait4(2)): commands, whose owners are told, and
//! orphans that the kernel gave to PID 1 or to the subreaper, which nobody else would collect.
//!
//! Invariant: a status is taken either by the owner that registered the process or, for an orphan,
//! by nobody. A command can end before its owner has registered it; so an unknown process is left
//! waiting until every spawn that began before it was seen has registered.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, oneshot},
};
use workspace_common::drain::Drain;

use super::alone::{Alone, Newest};
use crate::sys::{self, Ended};

/// A start takes a millisecond. One that takes this long is held up, perhaps by somebody who has
/// stopped the new process before it became its program.
const SLOW_SPAWN: Duration = Duration::from_secs(1);

/// A cheap handle to the collector.
#[derive(Debug, Clone)]
pub struct Reaper {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    registered: Notify,
}

#[derive(Debug, Default)]
struct State {
    owners: HashMap<Pid, oneshot::Sender<Ended>>,
    /// Spawns that have begun and not yet registered, by their number, and when they began.
    spawning: BTreeMap<u64, Instant>,
    next_spawn: u64,
    /// An ended process that nobody knows yet, and the number of the first spawn that cannot have
    /// made it.
    stranger: Option<(Pid, u64)>,
    newest: Newest,
}

/// A spawn that has begun. Registering it or dropping it ends it.
#[derive(Debug)]
pub struct SpawnTicket {
    reaper: Reaper,
    number: u64,
    alone: Alone,
}

impl Reaper {
    /// Starts collecting. Call it once, inside the runtime, before the first spawn.
    ///
    /// # Errors
    /// When the handler of SIGCHLD cannot be installed.
    pub fn start(drain: &Drain) -> std::io::Result<Self> {
        let reaper = Self { shared: Arc::new(Shared::default()) };
        let mut children = signal(SignalKind::child())?;
        let collector = reaper.clone();
        // It must outlive the drain, during which commands are still ending; the runtime ends it.
        let task = async move {
            loop {
                tokio::select! {
                    _ = children.recv() => {}
                    () = collector.shared.registered.notified() => {}
                }
                collector.collect();
            }
        };
        drain.spawn_uncounted(task);
        let watcher = reaper.clone();
        drain.spawn_uncounted(async move {
            loop {
                tokio::time::sleep(SLOW_SPAWN).await;
                watcher.continue_stopped();
            }
        });
        Ok(reaper)
    }

    /// Announces a spawn; call it right before the process is made.
    pub fn begin_spawn(&self) -> SpawnTicket {
        let mut state = self.lock();
        let number = state.next_spawn;
        state.next_spawn += 1;
        let is_only = state.owners.is_empty() && state.spawning.is_empty();
        let alone = state.newest.succeed(is_only);
        state.spawning.insert(number, Instant::now());
        SpawnTicket { reaper: self.clone(), number, alone }
    }

    /// Whether `pid` is a command of ours that has not been collected.
    pub fn owns(&self, pid: Pid) -> bool {
        self.lock().owners.contains_key(&pid)
    }

    /// Signals a command of ours, and says whether it was there. It cannot be collected, and its
    /// number not be given away, before the signal is sent.
    pub fn signal(&self, pid: Pid, signal: Signal) -> bool {
        let state = self.lock();
        state.owners.contains_key(&pid) && kill_process(pid, signal).is_ok()
    }

    /// Lets children go on that nobody has registered, when a spawn is slow: one of them is the new
    /// process, and as long as it is stopped no stranger is collected.
    fn continue_stopped(&self) {
        let state = self.lock();
        if !state.spawning.values().any(|begun| begun.elapsed() >= SLOW_SPAWN) {
            return;
        }
        let strangers = children().filter(|pid| !state.owners.contains_key(pid));
        for pid in strangers {
            if let Err(error) = kill_process(pid, Signal::CONT) {
                tracing::debug!(%error, "cannot continue a child");
            }
        }
        tracing::warn!("the start of a command was held up for over a second");
    }

    fn collect(&self) {
        while let Some(pid) = sys::ended_child() {
            let mut state = self.lock();
            if !state.owners.contains_key(&pid) && state.may_still_be_claimed(pid) {
                return;
            }
            // Who goes is nobody's stranger: spawns need not tell of their registering any more.
            state.stranger.take_if(|(stranger, _)| *stranger == pid);
            let owner = state.owners.remove(&pid);
            drop(state);
            match sys::reap(pid) {
                Ok(Some(ended)) => tell(owner, ended),
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(pid = pid.as_raw_nonzero().get(), %error, "cannot collect");
                    return;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can leave the state half-changed.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The children of every thread of this process (proc_pid_task_children(5)).
fn children() -> impl Iterator<Item = Pid> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let texts =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    texts.flat_map(|text| {
        let pids = text.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
        pids.collect::<Vec<_>>()
    })
}

fn tell(owner: Option<oneshot::Sender<Ended>>, ended: Ended) {
    let unheard = owner.is_none_or(|owner| owner.send(ended).is_err());
    if unheard {
        tracing::trace!("collected a process that nobody waits for");
    }
}

impl State {
    fn may_still_be_claimed(&mut self, pid: Pid) -> bool {
        let limit = match self.stranger {
            Some((seen, limit)) if seen == pid => limit,
            _ => self.next_spawn,
        };
        let open = self.spawning.first_key_value().is_some_and(|(oldest, _)| *oldest < limit);
        self.stranger = open.then_some((pid, limit));
        open
    }
}

impl SpawnTicket {
    /// Whether the command that this spawn makes is alone.
    pub fn alone(&self) -> Alone {
        self.alone.clone()
    }

    /// Says that this spawn made `pid`; the receiver gets its end.
    pub fn register(self, pid: Pid) -> oneshot::Receiver<Ended> {
        let (sender, receiver) = oneshot::channel();
        self.reaper.lock().owners.insert(pid, sender);
        receiver
    }
}

impl Drop for SpawnTicket {
    fn drop(&mut self) {
        let mut state = self.reaper.lock();
        state.spawning.remove(&self.number);
        if state.stranger.is_some() {
            drop(state);
            self.reaper.shared.registered.notify_one();
        }
    }
}
