//! Processes apart from HTTP: a command goes in, and whoever holds its [`process::Process`] reads its
//! output, feeds it, signals it, or has its whole tree ended.
//!
//! One task owns each process ([`task`], which moves its data by `flow`); [`spawn`] starts it,
//! on a thread of `start`'s choice, through [`launcher`] where it wants a [`terminal`] or [`limits`];
//! [`reap`] learns of its end, [`tree`] finds and ends what it has started, with the help of [`cgroup`],
//! [`stop`] asks for that.
//! [`table`] holds all commands, [`output`] what they wrote, [`reader`] is a place in it, and
//! [`bulletin`] tells what has happened.

pub mod bulletin;
pub mod cgroup;
mod flow;
pub mod launcher;
pub mod limits;
pub mod output;
pub mod pipe;
mod proc;
pub mod process;
pub mod reader;
pub mod reap;
pub mod spawn;
mod start;
pub mod stop;
pub mod table;
pub mod task;
pub mod terminal;
pub mod tree;

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use workspace_common::drain::Drain;

use self::{
    bulletin::{Bulletin, What},
    cgroup::Cgroups,
    output::{Keeping, Output, budget::Budget},
    process::{Attachment, ChosenId, OnDisconnect, Process, State},
    reap::Reaper,
    spawn::{CommandSpec, Spawned, StartError, Stdio, env_entry},
    start::Starter,
    stop::Stop,
    table::Table,
    task::{Ending, Input, Launched},
    tree::{Sweep, Tree},
};
use crate::metrics::Metrics;

/// Chunks of standard input that may wait for a process that does not read.
const STDIN_QUEUE: usize = 4;

/// A command to run.
#[derive(Debug)]
pub struct Request {
    /// The id, if the client chose one, and a digest of everything that it asked for: a repeat has
    /// the same.
    pub id: Option<(ChosenId, [u8; 32])>,
    /// What to start. Its environment gets the marker of the command in front.
    pub spec: CommandSpec,
    /// What standard input is. It has to fit the specification.
    pub stdin: Stdin,
    /// When and how to end it.
    pub ending: Ending,
    /// What becomes of it when its last attached client goes.
    pub on_disconnect: OnDisconnect,
    /// How its output is kept.
    pub keeping: Keeping,
}

/// Where a command's standard input comes from.
#[derive(Debug)]
pub enum Stdin {
    /// It is empty.
    Null,
    /// These bytes, then the end.
    Bytes(Bytes),
    /// Whatever [`Process::stdin`] is handed, until it is closed.
    Open,
}

/// What a start came to.
#[derive(Debug)]
pub enum Start {
    /// The command has been started.
    New(Arc<Process>),
    /// It had been, by the same request.
    Repeated(Arc<Process>),
}

impl Start {
    /// The command, either way.
    pub fn process(&self) -> &Arc<Process> {
        let (Self::New(process) | Self::Repeated(process)) = self;
        process
    }
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
    /// The id names a command that was asked for in other words.
    #[error("id '{0}' names another command, which was started by another request")]
    InUse(String),
    /// The id looks like one of the agent's own.
    #[error("id '{0}' begins like those that the agent makes itself: choose another")]
    Reserved(String),
    /// Its output cannot be spooled.
    #[error("cannot make a file in the spool directory: {0}")]
    Spool(io::Error),
    /// The command itself is at fault.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// What an engine works with.
#[derive(Debug)]
pub struct Settings {
    /// Commands that may run at once.
    pub max_processes: u32,
    /// Memory for all output that is kept, in bytes.
    pub output_memory: usize,
    /// Where commands get cgroups, if they do.
    pub cgroups: Option<Cgroups>,
}

/// Starts commands and knows them.
#[derive(Debug)]
pub struct Engine {
    reaper: Reaper,
    starter: Starter,
    drain: Drain,
    metrics: Arc<Metrics>,
    table: Arc<Table>,
    bulletin: Bulletin,
    slots: Arc<Semaphore>,
    limit: usize,
    budget: Budget,
    cgroups: Option<Cgroups>,
    boot: String,
    started: AtomicU64,
    /// Held while a command with a chosen id starts, so that of two requests with one id the second
    /// finds the first.
    starting: Mutex<()>,
}

impl Engine {
    /// An engine without commands.
    pub fn new(
        reaper: Reaper,
        drain: Drain,
        metrics: Arc<Metrics>,
        table: Arc<Table>,
        settings: Settings,
    ) -> Self {
        let limit = usize::try_from(settings.max_processes).unwrap_or(usize::MAX);
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self {
            reaper,
            starter: Starter::new(&drain),
            drain,
            metrics,
            table,
            bulletin: Bulletin::default(),
            slots: Arc::new(Semaphore::new(limit)),
            limit,
            budget: Budget::new(settings.output_memory),
            cgroups: settings.cgroups,
            boot: format!("{:08x}", fastrand::u32(..)),
            started: AtomicU64::new(0),
            starting: Mutex::default(),
        }
    }

    /// Starts a command, unless the same request has started it before, and attaches the caller to
    /// it.
    ///
    /// # Errors
    /// When it cannot start, or its id is taken; then nothing is left of it.
    pub fn attach(&self, request: Request) -> Result<(Start, Attachment), Refusal> {
        let (start, attachment) = self.start(request, true)?;
        let attachment = attachment.unwrap_or_else(|| start.process().attach());
        Ok((start, attachment))
    }

    /// The same for a caller that does not stay, and may attach later.
    ///
    /// # Errors
    /// As [`Engine::attach`].
    pub fn detach(&self, request: Request) -> Result<Start, Refusal> {
        let (start, _none) = self.start(request, false)?;
        if let Start::New(process) = &start {
            process.await_first_client();
        }
        Ok(start)
    }

    /// A process that starts can be stopped by a signal of another command before it has become the
    /// program, and holds its starter up meanwhile. So other work goes on elsewhere. A chosen id may have
    /// to wait for others, and a launcher for what it does.
    fn start(
        &self,
        request: Request,
        attach: bool,
    ) -> Result<(Start, Option<Attachment>), Refusal> {
        let quick = request.id.is_none() && !request.spec.needs_launcher();
        self.starter.run(quick, || self.start_here(request, attach))
    }

    fn start_here(
        &self,
        mut request: Request,
        attach: bool,
    ) -> Result<(Start, Option<Attachment>), Refusal> {
        let Some((ChosenId(id), digest)) = request.id.take() else {
            let (process, attachment) = self.launch(None, request, attach)?;
            return Ok((Start::New(process), attachment));
        };
        if self.is_own(&id) {
            return Err(Refusal::Reserved(id));
        }
        let _held = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        match self.table.get(&id) {
            Some(known) if known.is_of(&digest) => Ok((Start::Repeated(known), None)),
            Some(_) => Err(Refusal::InUse(id)),
            None => {
                let (process, attachment) = self.launch(Some((id, digest)), request, attach)?;
                Ok((Start::New(process), attachment))
            }
        }
    }

    fn launch(
        &self,
        id: Option<(String, [u8; 32])>,
        request: Request,
        attach: bool,
    ) -> Result<(Arc<Process>, Option<Attachment>), Refusal> {
        let launched = self.try_launch(id, request);
        let (process, launched, slot) =
            launched.inspect_err(|_refusal| self.metrics.command_refused())?;
        // Before anybody else can find it: the first attachment must not be somebody else's.
        let attachment = attach.then(|| process.attach());
        self.table.insert(process.clone());
        let started = What::Started { id: process.id.clone(), pid: process.pid };
        self.bulletin.put_up(started);
        self.own(process.clone(), launched, slot);
        Ok((process, attachment))
    }

    fn try_launch(
        &self,
        id: Option<(String, [u8; 32])>,
        mut request: Request,
    ) -> Result<(Arc<Process>, Launched, OwnedSemaphorePermit), Refusal> {
        if self.drain.is_draining() {
            return Err(Refusal::Draining);
        }
        let slot = self.slots.clone().try_acquire_owned();
        let slot = slot.map_err(|_full| Refusal::TooMany(self.limit))?;
        let output = Output::new(&request.keeping, &self.budget).map_err(Refusal::Spool)?;
        let mark = self.mark(&mut request.spec);
        let ticket = self.reaper.begin_spawn();
        let spawned = spawn::spawn(&request.spec, self.cgroups.as_ref())?;
        let exit = ticket.register(spawned.pid);
        let (input, stdin) = input(request.stdin);
        let Request { spec, ending, on_disconnect, .. } = request;
        let known = Known { id, mark, spec, ending, on_disconnect, stdin, output };
        let (process, ends) = self.process(known, spawned);
        Ok((Arc::new(process), Launched { exit, ends, input }, slot))
    }

    /// Gives a command its marker: the one name that all of its processes inherit.
    fn mark(&self, spec: &mut CommandSpec) -> String {
        let mark = format!("{}-{}", self.boot, self.started.fetch_add(1, Ordering::Relaxed));
        if let Ok(marker) = env_entry(tree::MARKER.as_ref(), mark.as_ref()) {
            // A second one of the caller's would be the one that shells pass on.
            spec.env.retain(|entry| !tree::is_marker(entry.as_bytes()));
            spec.env.insert(0, marker);
        }
        mark
    }

    fn process(&self, known: Known, spawned: Spawned) -> (Process, spawn::Ends) {
        let Known { id, mark, spec, ending, on_disconnect, stdin, output } = known;
        let (id, digest) = id.unzip();
        let Spawned { pid, ends, group, verdicts } = spawned;
        let argv0 = spec.argv.first().map(|word| word.to_string_lossy().into_owned());
        let process = Process {
            id: id.as_deref().unwrap_or(&mark).into(),
            pid: pid.as_raw_nonzero().get(),
            argv0: argv0.unwrap_or_default(),
            started_at: SystemTime::now(),
            verdicts,
            digest,
            ending,
            on_disconnect,
            attached: AtomicUsize::new(0),
            leader_gone: AtomicBool::new(false),
            tree: Tree::of_command(pid, &mark, group),
            stop: Stop::new(),
            drain: self.drain.clone(),
            reaper: self.reaper.clone(),
            has_terminal: matches!(spec.stdio, Stdio::Terminal(_)),
            terminal: Mutex::new(ends.terminal.clone()),
            input: Mutex::new(stdin),
            output: Arc::new(output),
        };
        (process, ends)
    }

    /// Starts the task that owns the command and notes its end.
    fn own(&self, process: Arc<Process>, launched: Launched, slot: OwnedSemaphorePermit) {
        let mut record = EndRecord {
            process: process.clone(),
            table: self.table.clone(),
            bulletin: self.bulletin.clone(),
            state: State::Lost,
        };
        let metrics = self.metrics.clone();
        self.drain.spawn(async move {
            let outcome = task::run(&process, launched).await;
            metrics.command_ended(outcome.counted_as(), outcome.duration);
            drop(slot);
            record.fill(outcome);
        });
    }

    /// Whether `id` looks like one that the agent makes.
    fn is_own(&self, id: &str) -> bool {
        id.strip_prefix(&self.boot).is_some_and(|rest| rest.starts_with('-'))
    }

    /// All commands.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// What happens.
    pub fn bulletin(&self) -> &Bulletin {
        &self.bulletin
    }

    /// Names this life of the agent: ids and offsets of another one mean nothing to it.
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// Where commands get their cgroups, if they do.
    pub fn cgroups(&self) -> Option<&Cgroups> {
        self.cgroups.as_ref()
    }

    /// The stop that this engine takes part in.
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// How many commands are running.
    pub fn running(&self) -> usize {
        self.limit.saturating_sub(self.slots.available_permits())
    }

    /// Resolves when the stop has begun and no command runs any more.
    pub async fn idle(&self) {
        self.drain.started().await;
        let all = u32::try_from(self.limit).unwrap_or(u32::MAX);
        // The places are never closed, so this fails never.
        self.slots.acquire_many(all).await.map(drop).ok();
    }

    /// Ends everything that any command of this agent has left running, and every other child of this
    /// process: the agent starts nothing else. TERM has its time, unless the stop is cut short.
    pub async fn end_all(&self, grace: Duration) -> Sweep {
        let patience = async {
            tokio::select! {
                () = tokio::time::sleep(grace) => {}
                () = self.drain.cut() => {}
            }
        };
        Tree::of_all(&format!("{}-", self.boot)).end(patience).await
    }
}

/// What is known of a command before it starts.
struct Known {
    id: Option<(String, [u8; 32])>,
    mark: String,
    spec: CommandSpec,
    ending: Ending,
    on_disconnect: OnDisconnect,
    stdin: Option<mpsc::Sender<Bytes>>,
    output: Output,
}

fn input(stdin: Stdin) -> (Input, Option<mpsc::Sender<Bytes>>) {
    match stdin {
        Stdin::Null => (Input::Nothing, None),
        Stdin::Bytes(bytes) => (Input::Bytes(bytes), None),
        Stdin::Open => {
            let (sender, receiver) = mpsc::channel(STDIN_QUEUE);
            (Input::Stream(receiver), Some(sender))
        }
    }
}

/// Notes the end of a command when it is dropped, even by a panic of the task that owned it.
struct EndRecord {
    process: Arc<Process>,
    table: Arc<Table>,
    bulletin: Bulletin,
    state: State,
}

impl EndRecord {
    fn fill(&mut self, outcome: task::Outcome) {
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
