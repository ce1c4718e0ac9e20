//! The task that owns one running process: it moves its input and output, waits for its end, its
//! deadline, or the wish that it ends, and ends the tree in the latter two cases.
//!
//! Invariant: the end of a command is the exit of its leader. What is in the pipes at that moment
//! is still delivered. A grandchild that holds them open is read into a sink from then on, so that
//! it is never stopped by SIGPIPE and nobody waits for it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use workspace_common::drain::Drain;

use super::{
    flow::{Moving, drain_to_sink, move_data},
    process::Process,
    spawn::Ends,
    tree::{self, Survivor, Sweep},
};
use crate::{metrics::CommandEnd, sys::Ended};

/// How long the kernel may take to report the end of a leader after its tree has ended.
const EXIT_AFTER_KILL: Duration = Duration::from_secs(1);

/// How long a reader may take for the last output of a command that was ended.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

/// What feeds standard input.
#[derive(Debug)]
pub(super) enum Input {
    Nothing,
    Bytes(Bytes),
    Stream(mpsc::Receiver<Bytes>),
}

/// A process that has just been started.
pub(super) struct Launched {
    pub(super) exit: oneshot::Receiver<Ended>,
    pub(super) ends: Ends,
    pub(super) input: Input,
}

/// When and how a command is ended, if it does not end by itself.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    /// How long it may run.
    pub timeout: Option<Duration>,
    /// Time between TERM and KILL.
    pub kill_grace: Duration,
    /// What becomes of what it leaves running.
    pub background: Background,
}

/// What becomes of processes that outlive their command's leader.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Background {
    /// They run on, and are counted.
    #[default]
    Keep,
    /// They are ended with it.
    Kill,
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Status and usage; absent only if the kernel could not end the leader.
    pub ended: Option<Ended>,
    /// What made it end.
    pub cause: Cause,
    /// From the start to the end.
    pub duration: Duration,
    /// How many processes were ended, itself included unless it ended by itself.
    pub killed: usize,
    /// How many of its processes are alive.
    pub left_running: usize,
    /// Those that the kernel could not end.
    pub survivors: Arc<[Survivor]>,
}

/// What made a command end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It ended by itself.
    Exit,
    /// Its deadline.
    Deadline,
    /// Somebody asked for it, its client went away, or the agent is stopping.
    Cancelled,
}

impl Outcome {
    /// Whether the deadline ended it.
    pub fn timed_out(&self) -> bool {
        self.cause == Cause::Deadline
    }

    /// How it is counted.
    pub fn counted_as(&self) -> CommandEnd {
        let success = self.ended.is_some_and(|ended| ended.status.success());
        match (self.cause, success) {
            (Cause::Deadline, _) => CommandEnd::TimedOut,
            (Cause::Cancelled, _) => CommandEnd::Cancelled,
            (Cause::Exit, true) => CommandEnd::Success,
            (Cause::Exit, false) => CommandEnd::Failure,
        }
    }
}

enum Event {
    Exited(Option<Ended>),
    Deadline,
    Cancelled,
}

impl Event {
    fn cause(&self) -> Cause {
        match self {
            Self::Exited(_) => Cause::Exit,
            Self::Deadline => Cause::Deadline,
            Self::Cancelled => Cause::Cancelled,
        }
    }
}

/// Runs the process to its end.
pub(super) async fn run(process: &Process, launched: Launched) -> Outcome {
    let begun = Instant::now();
    let Launched { mut exit, mut ends, input } = launched;
    let exited = CancellationToken::new();
    let stdin = ends.stdin.take();
    let mut moving = Moving::new(move_data(&ends, stdin, input, process.output(), &exited));
    let event = moving.beside(first_event(&mut exit, process)).await;
    let cause = event.cause();
    process.leader_gone.store(cause == Cause::Exit, Ordering::Release);
    let mut duration = begun.elapsed();
    let (ended, left) = match event {
        Event::Exited(ended) => (ended, moving.beside(after_exit(process)).await),
        Event::Deadline | Event::Cancelled => {
            let sweep = moving.beside(process.tree.end(patience(process))).await;
            let ended = tokio::time::timeout(EXIT_AFTER_KILL, &mut exit).await;
            duration = begun.elapsed();
            (ended.ok().and_then(Result::ok), Left::after(sweep))
        }
    };
    process.leader_gone.store(true, Ordering::Release);
    exited.cancel();
    let held_open = tokio::select! {
        // What can be delivered without waiting is.
        biased;
        held_open = moving.finish() => held_open,
        // The client has gone, or does not read in time what is to be over.
        () = process.stop.asked() => true,
        () = hurry(process, cause) => true,
    };
    drop(moving);
    if held_open {
        drain_to_sink(&process.drain, ends);
    }
    let Left { killed, running: left_running, survivors } = left;
    Outcome { ended, cause, duration, killed, left_running, survivors }
}

/// Resolves when the last output has had its time. After an end by itself that is as long as a reader
/// takes for whom the command waits (backpressure), unless the agent is stopping.
async fn hurry(process: &Process, cause: Cause) {
    if cause == Cause::Exit {
        process.drain.started().await;
    }
    tokio::select! {
        () = tokio::time::sleep(LAST_OUTPUT) => {}
        () = process.drain.cut() => {}
    }
}

/// What is left of a tree.
#[derive(Default)]
struct Left {
    killed: usize,
    running: usize,
    survivors: Arc<[Survivor]>,
}

impl Left {
    fn after(Sweep { killed, survivors }: Sweep) -> Self {
        Self { killed, running: survivors.len(), survivors: survivors.into() }
    }
}

/// Sees to the descendants that outlive a command which ended by itself.
async fn after_exit(process: &Process) -> Left {
    match process.ending.background {
        // The kernel's list of children may miss some while others end (proc(5)), so it is not asked.
        Background::Kill => Left::after(process.tree.end(patience(process)).await),
        Background::Keep => {
            let orphans = tree::may_have_orphans(|pid| process.reaper.owns(pid));
            if !orphans {
                process.tree.note_nothing_left();
                return Left::default();
            }
            Left { running: process.tree.count().await, ..Left::default() }
        }
    }
}

/// Resolves when TERM has had its time.
async fn patience(process: &Process) {
    // Whoever asked for the end said how long it may take; nobody did for a deadline or a drain.
    let own_grace = (!process.stop.is_asked()).then_some(process.ending.kill_grace);
    tokio::select! {
        () = sleep_if(own_grace) => {}
        () = process.stop.overdue() => {}
        () = process.drain.cut() => {}
    }
}

async fn first_event(exit: &mut oneshot::Receiver<Ended>, process: &Process) -> Event {
    let drain: &Drain = &process.drain;
    tokio::select! {
        biased;
        ended = exit => Event::Exited(ended.ok()),
        () = sleep_if(process.ending.timeout) => Event::Deadline,
        () = process.stop.asked() => Event::Cancelled,
        () = drain.started() => Event::Cancelled,
    }
}

async fn sleep_if(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
