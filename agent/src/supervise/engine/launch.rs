//! From a request to a process with a task that owns it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{
    super::{
        alone::Alone,
        bulletin::What,
        output::Output,
        process::{Attachment, OnDisconnect, Process},
        request::{Request, Stdin},
        spawn::{self, CommandSpec, Spawned, Stdio, env_entry},
        start::Refusal,
        stop::Stop,
        task::{self, Ending, Input, Launched},
        tree::{self, Tree},
    },
    Engine,
    end::EndRecord,
};

/// Chunks of standard input that may wait for a process that does not read.
const STDIN_QUEUE: usize = 4;

impl Engine {
    /// Starts a command, and attaches the caller to it if that is wanted.
    pub(super) fn launch(
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
        let alone = ticket.alone();
        let exit = ticket.register(spawned.pid);
        let (input, stdin) = input(request.stdin);
        let Request { spec, ending, on_disconnect, .. } = request;
        let known = Known { id, mark, alone, spec, ending, on_disconnect, stdin, output };
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
        let Known { id, mark, alone, spec, ending, on_disconnect, stdin, output } = known;
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
            tree: Tree::of_command(pid, &mark, group, alone),
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
        let (table, bulletin) = (self.table.clone(), self.bulletin.clone());
        let mut record = EndRecord::new(process.clone(), table, bulletin);
        let metrics = self.metrics.clone();
        self.drain.spawn(async move {
            let outcome = task::run(&process, launched).await;
            metrics.command_ended(outcome.counted_as(), outcome.duration);
            drop(slot);
            record.fill(outcome);
        });
    }
}

/// What is known of a command before it starts.
struct Known {
    id: Option<(String, [u8; 32])>,
    mark: String,
    alone: Alone,
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
