//! Starts commands, each under its own id, and knows those that run.

mod end;
mod launch;

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use tokio::sync::Semaphore;
use workspace_common::drain::Drain;

use super::{
    bulletin::Bulletin,
    cgroup::Cgroups,
    output::budget::Budget,
    process::{Attachment, ChosenId},
    reap::Reaper,
    request::Request,
    start::{Refusal, Start},
    starter::Starter,
    table::Table,
    tree::{Sweep, Tree},
};
use crate::metrics::Metrics;

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
