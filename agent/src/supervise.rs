//! Processes apart from HTTP: a command goes in, an outcome comes out, and whoever holds the
//! [`Running`] ends the whole tree by dropping it.
//!
//! One task owns each process ([`task`]); [`spawn`] starts it, [`reap`] learns of its end,
//! [`tree`] finds and ends what it has started, [`stop`] asks for that. [`table`] holds the commands
//! that no caller waits for, each a [`process`] with its output in [`ring`]s.

pub mod process;
pub mod reap;
pub mod ring;
pub mod spawn;
pub mod stop;
pub mod table;
pub mod task;
pub mod tree;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rustix::process::Pid;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};
use workspace_common::drain::Drain;

use self::{
    reap::Reaper,
    spawn::{CommandSpec, StartError, env_entry},
    stop::{Stop, StopGuard},
    task::{Input, Job, Launched, Outcome, OutputSink, Outputs},
    tree::{Sweep, Tree},
};
use crate::metrics::Metrics;

/// Chunks of standard input that may wait for a process that does not read.
const STDIN_QUEUE: usize = 4;

/// A command to run.
#[derive(Debug)]
pub struct Request {
    /// What to start. Its environment gets the marker of the command in front.
    pub spec: CommandSpec,
    /// What standard input is.
    pub stdin: Stdin,
    /// When to end it.
    pub timeout: Option<Duration>,
    /// Time between TERM and KILL.
    pub kill_grace: Duration,
}

/// Where a command's standard input comes from.
#[derive(Debug)]
pub enum Stdin {
    /// It is empty.
    Null,
    /// These bytes, then the end.
    Bytes(Bytes),
    /// Whatever [`Engine::stdin`] is handed, until it is closed.
    Open,
}

/// Why a command did not start.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The agent is stopping.
    #[error("the workspace is stopping and starts no more commands")]
    Draining,
    /// As many commands run as may.
    #[error("{0} commands are running, which is the limit (--max-processes)")]
    TooMany(usize),
    /// The command itself is at fault.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Starts commands and knows the ones that run.
#[derive(Debug)]
pub struct Engine {
    reaper: Reaper,
    drain: Drain,
    slots: Arc<Semaphore>,
    limit: usize,
    metrics: Arc<Metrics>,
    boot: String,
    started: AtomicU64,
    stdins: Arc<Stdins>,
}

/// A command that runs. Dropping it ends the whole tree.
#[derive(Debug)]
pub struct Running<W> {
    /// Identifies the command within this agent.
    pub id: String,
    /// What its processes are marked with: its id, unless the caller chose that.
    mark: String,
    /// Process id of the leader.
    pub pid: i32,
    leader: Pid,
    guard: StopGuard,
    done: JoinHandle<(Outcome, Outputs<W>)>,
}

impl Engine {
    /// An engine that runs at most `limit` commands at once.
    pub fn new(reaper: Reaper, drain: Drain, metrics: Arc<Metrics>, limit: u32) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self {
            reaper,
            drain,
            slots: Arc::new(Semaphore::new(limit)),
            limit,
            metrics,
            boot: format!("{:08x}", fastrand::u32(..)),
            started: AtomicU64::new(0),
            stdins: Arc::default(),
        }
    }

    /// Starts a command whose output goes to `outputs`.
    ///
    /// # Errors
    /// When it cannot start; then nothing is left of it.
    pub fn start<W: OutputSink>(
        &self,
        request: Request,
        outputs: Outputs<W>,
    ) -> Result<Running<W>, Refusal> {
        self.start_as(None, request, outputs)
    }

    /// Starts a command under an id that the caller has found to be free.
    fn start_as<W: OutputSink>(
        &self,
        id: Option<String>,
        request: Request,
        outputs: Outputs<W>,
    ) -> Result<Running<W>, Refusal> {
        self.try_start(id, request, outputs).inspect_err(|_refusal| self.metrics.command_refused())
    }

    fn try_start<W: OutputSink>(
        &self,
        id: Option<String>,
        mut request: Request,
        outputs: Outputs<W>,
    ) -> Result<Running<W>, Refusal> {
        if self.drain.is_draining() {
            return Err(Refusal::Draining);
        }
        let slot = self.slots.clone().try_acquire_owned();
        let slot = slot.map_err(|_full| Refusal::TooMany(self.limit))?;
        let mark = format!("{}-{}", self.boot, self.started.fetch_add(1, Ordering::Relaxed));
        let id = id.unwrap_or_else(|| mark.clone());
        if let Ok(marker) = env_entry(tree::MARKER.as_ref(), mark.as_ref()) {
            // A second one of the caller's would be the one that shells pass on.
            request.spec.env.retain(|entry| !tree::is_marker(entry.as_bytes()));
            request.spec.env.insert(0, marker);
        }
        let ticket = self.reaper.begin_spawn();
        let process = spawn::spawn(&request.spec)?;
        let (pid, exit) = (process.pid, ticket.register(process.pid));
        let (input, registration) = self.input(&id, request.stdin);
        let stop = Stop::new();
        let guard = StopGuard { stop: stop.clone(), grace: request.kill_grace };
        let launched = Launched { exit, process, input };
        let job = Job {
            tree: Tree::of_command(pid, &mark),
            timeout: request.timeout,
            kill_grace: request.kill_grace,
            stop,
            drain: self.drain.clone(),
            reaper: self.reaper.clone(),
        };
        let metrics = self.metrics.clone();
        let done = self.drain.spawn(async move {
            let result = task::run(job, launched, outputs).await;
            metrics.command_ended(result.0.counted_as(), result.0.duration);
            drop((slot, registration));
            result
        });
        Ok(Running { id, mark, pid: pid.as_raw_nonzero().get(), leader: pid, guard, done })
    }

    /// Whether `id` looks like one that the agent makes.
    fn is_own(&self, id: &str) -> bool {
        id.strip_prefix(&self.boot).is_some_and(|rest| rest.starts_with('-'))
    }

    fn input(&self, id: &str, stdin: Stdin) -> (Input, Option<Registration>) {
        match stdin {
            Stdin::Null => (Input::Nothing, None),
            Stdin::Bytes(bytes) => (Input::Bytes(bytes), None),
            Stdin::Open => {
                let (sender, receiver) = mpsc::channel(STDIN_QUEUE);
                let registration = self.stdins.register(id, sender);
                (Input::Stream(receiver), Some(registration))
            }
        }
    }

    /// Where to send the standard input of the running command `id`; dropping every sender does not
    /// close it, [`Engine::close_stdin`] does.
    pub fn stdin(&self, id: &str) -> Option<mpsc::Sender<Bytes>> {
        self.stdins.lock().get(id).cloned()
    }

    /// Lets the command see the end of its input once what is queued has been read.
    pub fn close_stdin(&self, id: &str) {
        self.stdins.lock().remove(id);
    }

    /// The stop that this engine takes part in.
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// How many commands are running.
    pub fn running(&self) -> usize {
        self.limit.saturating_sub(self.slots.available_permits())
    }

    /// Ends everything that any command of this agent has left running, and every other child of this
    /// process: the agent starts nothing else.
    pub async fn end_all(&self, grace: Duration) -> Sweep {
        Tree::of_all(&format!("{}-", self.boot)).end(tokio::time::sleep(grace)).await
    }
}

impl<W> Running<W> {
    /// Its tree, also for the time after its end.
    fn outliving_tree(&self) -> Tree {
        Tree::outliving(self.leader, &self.mark)
    }

    /// Waits for the end. Dropping the future ends the command.
    ///
    /// # Errors
    /// When the task that owns it has failed.
    pub async fn wait(self) -> Result<(Outcome, Outputs<W>), tokio::task::JoinError> {
        let result = self.done.await;
        drop(self.guard);
        result
    }
}

/// Standard inputs that are open, by command.
#[derive(Debug, Default)]
struct Stdins(Mutex<HashMap<String, mpsc::Sender<Bytes>>>);

impl Stdins {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, mpsc::Sender<Bytes>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(self: &Arc<Self>, id: &str, sender: mpsc::Sender<Bytes>) -> Registration {
        self.lock().insert(id.to_owned(), sender);
        Registration { stdins: self.clone(), id: id.to_owned() }
    }
}

/// Takes the entry out again when the command has ended.
#[derive(Debug)]
struct Registration {
    stdins: Arc<Stdins>,
    id: String,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.stdins.lock().remove(&self.id);
    }
}
