//! The task that owns one running process: it moves its input and output, waits for its end, its
//! deadline, or for the client to go away, and ends the tree in the latter two cases.
//!
//! Invariant: the end of a command is the exit of its leader. What is in the pipes at that moment
//! is still delivered. A grandchild that holds them open is read into a sink from then on, so that
//! it is never stopped by SIGPIPE and nobody waits for it.

use std::{
    future::Future,
    pin::{Pin, pin},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;
use workspace_common::drain::Drain;

use super::{
    reap::Reaper,
    spawn::Spawned,
    stop::Stop,
    tree::{self, Sweep, Tree},
};
use crate::{metrics::CommandEnd, sys::Ended};

/// How long the kernel may take to report the end of a leader after its tree has ended.
const EXIT_AFTER_KILL: Duration = Duration::from_secs(1);
/// Size of one read. A pipe holds 64 KiB by default (pipe(7)).
const READ_SIZE: usize = 64 * 1024;

/// Takes one stream of a command's output.
pub trait OutputSink: Send + 'static {
    /// Takes the next bytes. Waiting here holds the process up once its pipe is full.
    fn write(&mut self, data: Bytes) -> impl Future<Output = ()> + Send;
    /// Learns that nothing more comes.
    fn finish(&mut self) -> impl Future<Output = ()> + Send;
}

/// Standard output and standard error.
#[derive(Debug)]
pub struct Outputs<W> {
    /// Standard output.
    pub stdout: W,
    /// Standard error.
    pub stderr: W,
}

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
    pub(super) process: Spawned,
    pub(super) input: Input,
}

/// Everything that decides about a process.
pub(super) struct Job {
    pub(super) tree: Tree,
    pub(super) timeout: Option<Duration>,
    pub(super) kill_grace: Duration,
    pub(super) stop: Stop,
    pub(super) drain: Drain,
    pub(super) reaper: Reaper,
}

impl Job {
    /// Resolves when TERM has had its time.
    async fn patience(&self) {
        // Whoever asked for the end said how long it may take; nobody did for a deadline or a drain.
        let own_grace = (!self.stop.is_asked()).then_some(self.kill_grace);
        let own = async {
            match own_grace {
                Some(grace) => tokio::time::sleep(grace).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = own => {}
            () = self.stop.overdue() => {}
            () = self.drain.cut() => {}
        }
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Status and usage; absent only if the kernel could not end the leader.
    pub ended: Option<Ended>,
    /// What made it end.
    pub cause: Cause,
    /// From the start to the end.
    pub duration: Duration,
    /// How many processes were ended with it, itself included; none after a normal end.
    pub killed: usize,
    /// Descendants alive after a normal end, or survivors of a kill.
    pub left_running: usize,
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

/// Runs the process to its end.
pub(super) async fn run<W: OutputSink>(
    job: Job,
    launched: Launched,
    mut outputs: Outputs<W>,
) -> (Outcome, Outputs<W>) {
    let begun = Instant::now();
    let Launched { mut exit, mut process, input } = launched;
    let exited = CancellationToken::new();
    let mut moving = Moving::new(move_data(&mut process, input, &mut outputs, &exited));
    let first = first_event(&mut exit, &job.stop, &job.drain, job.timeout);
    let event = moving.beside(first).await;
    let (ended, sweep) = match event {
        Event::Exited(ended) => {
            let survivors = remaining(&job.tree, &job.reaper);
            (ended, Sweep { killed: 0, survivors })
        }
        Event::Deadline | Event::Cancelled => {
            let sweep = moving.beside(job.tree.end(job.patience())).await;
            let ended = tokio::time::timeout(EXIT_AFTER_KILL, &mut exit).await;
            (ended.ok().and_then(Result::ok), sweep)
        }
    };
    let duration = begun.elapsed();
    exited.cancel();
    let held_open = tokio::select! {
        // What can be delivered without waiting is.
        biased;
        held_open = moving.finish() => held_open,
        // The client has gone, or the process must end: nobody reads the rest.
        () = job.stop.asked() => true,
        () = job.drain.cut() => true,
    };
    drop(moving);
    if held_open {
        drain_to_sink(&job.drain, process);
    }
    let cause = match event {
        Event::Exited(_) => Cause::Exit,
        Event::Deadline => Cause::Deadline,
        Event::Cancelled => Cause::Cancelled,
    };
    let Sweep { killed, survivors } = sweep;
    (Outcome { ended, cause, duration, killed, left_running: survivors }, outputs)
}

/// The movement of data, which goes on beside whatever decides about the process, and the answer it
/// came to: whether a pipe is still held open.
struct Moving<F> {
    future: Pin<Box<F>>,
    held_open: Option<bool>,
}

impl<F: Future<Output = bool>> Moving<F> {
    fn new(future: F) -> Self {
        Self { future: Box::pin(future), held_open: None }
    }

    /// Runs `main` to its end, and the movement as far as it comes meanwhile.
    async fn beside<M: Future>(&mut self, main: M) -> M::Output {
        let mut main = pin!(main);
        if self.held_open.is_none() {
            tokio::select! {
                biased;
                result = &mut main => return result,
                held_open = &mut self.future => self.held_open = Some(held_open),
            }
        }
        main.await
    }

    /// Runs the movement to its end.
    async fn finish(&mut self) -> bool {
        match self.held_open {
            Some(held_open) => held_open,
            None => self.future.as_mut().await,
        }
    }
}

async fn first_event(
    exit: &mut oneshot::Receiver<Ended>,
    stop: &Stop,
    drain: &Drain,
    timeout: Option<Duration>,
) -> Event {
    let deadline = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        ended = exit => Event::Exited(ended.ok()),
        () = deadline => Event::Deadline,
        () = stop.asked() => Event::Cancelled,
        () = drain.started() => Event::Cancelled,
    }
}

/// Descendants that outlive a command which ended by itself.
fn remaining(tree: &Tree, reaper: &Reaper) -> usize {
    if tree::may_have_orphans(|pid| reaper.owns(pid)) { tree.count() } else { 0 }
}

/// Moves input and output until both outputs have ended, or have been emptied after the exit. Says
/// whether a descendant may still hold one of them.
async fn move_data<W: OutputSink>(
    process: &mut Spawned,
    input: Input,
    outputs: &mut Outputs<W>,
    exited: &CancellationToken,
) -> bool {
    let stdin = process.stdin.take();
    let feeding = exited.run_until_cancelled(feed(stdin, input));
    let (_, out_open, err_open) = tokio::join!(
        feeding,
        pump(&mut process.stdout, &mut outputs.stdout, exited),
        pump(&mut process.stderr, &mut outputs.stderr, exited),
    );
    out_open || err_open
}

async fn pump<W: OutputSink>(
    from: &mut pipe::Receiver,
    to: &mut W,
    exited: &CancellationToken,
) -> bool {
    let open = pump_until_exit(from, to, exited).await;
    let open = open && pump_what_is_left(from, to).await;
    to.finish().await;
    open
}

/// Moves output until its end or the leader's; says whether the pipe is still open.
async fn pump_until_exit<W: OutputSink>(
    from: &mut pipe::Receiver,
    to: &mut W,
    exited: &CancellationToken,
) -> bool {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_SIZE);
        let read = tokio::select! {
            read = from.read_buf(&mut buffer) => read,
            () = exited.cancelled() => return true,
        };
        match read {
            Ok(0) => return false,
            Ok(_) => to.write(buffer.split().freeze()).await,
            Err(error) => {
                tracing::debug!(%error, "cannot read the output of a command");
                return false;
            }
        }
    }
}

/// Moves what is in the pipe now, and no more: a grandchild may write for ever.
///
/// The pipe itself is asked, not the runtime's record of what is readable: the reaper collects every
/// ended child as soon as one has ended, so an exit can be known here before the runtime has heard
/// of the output that came first.
async fn pump_what_is_left<W: OutputSink>(from: &mut pipe::Receiver, to: &mut W) -> bool {
    let mut left = rustix::io::ioctl_fionread(&*from).unwrap_or(0);
    let mut buffer = vec![0; READ_SIZE];
    loop {
        // Our end does not block, so neither does this.
        match rustix::io::read(&*from, &mut buffer) {
            Ok(0) => return false,
            Ok(read) => {
                left = left.saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
                to.write(Bytes::copy_from_slice(buffer.get(..read).unwrap_or_default())).await;
            }
            Err(rustix::io::Errno::INTR) => continue,
            Err(_would_block) => return true,
        }
        if left == 0 {
            return true;
        }
    }
}

/// Feeds standard input and closes it. A command that does not want its input is no error.
async fn feed(stdin: Option<pipe::Sender>, input: Input) {
    let Some(mut stdin) = stdin else { return };
    let fed = match input {
        Input::Nothing => Ok(()),
        Input::Bytes(bytes) => stdin.write_all(&bytes).await,
        Input::Stream(mut chunks) => feed_stream(&mut stdin, &mut chunks).await,
    };
    if let Err(error) = fed {
        tracing::debug!(%error, "a command closed its standard input early");
    }
}

async fn feed_stream(
    stdin: &mut pipe::Sender,
    chunks: &mut mpsc::Receiver<Bytes>,
) -> std::io::Result<()> {
    while let Some(chunk) = chunks.recv().await {
        stdin.write_all(&chunk).await?;
    }
    Ok(())
}

/// Keeps reading what descendants write, so that their pipe neither fills nor breaks.
fn drain_to_sink(drain: &Drain, mut process: Spawned) {
    drain.spawn_background(async move {
        let (mut out, mut err) = (tokio::io::sink(), tokio::io::sink());
        let copied = tokio::join!(
            tokio::io::copy(&mut process.stdout, &mut out),
            tokio::io::copy(&mut process.stderr, &mut err),
        );
        tracing::trace!(?copied, "descendants closed their output");
    });
}

#[cfg(test)]
mod tests {
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    #[derive(Default)]
    struct Collected(Vec<u8>);

    impl OutputSink for Collected {
        async fn write(&mut self, data: Bytes) {
            self.0.extend_from_slice(&data);
        }

        async fn finish(&mut self) {}
    }

    /// The runtime of this test has one thread, which never looks for events before the end: that
    /// is the moment in which an exit is known and the output before it is not.
    #[tokio::test]
    async fn output_that_the_runtime_has_not_heard_of_is_not_lost() {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut from = pipe::Receiver::from_owned_fd(read).unwrap();
        rustix::io::write(&write, b"last words").unwrap();
        let mut to = Collected::default();
        assert!(pump_what_is_left(&mut from, &mut to).await, "the other end is open");
        assert_eq!(to.0, b"last words");
        drop(write);
        assert!(!pump_what_is_left(&mut from, &mut to).await, "the other end is closed");
    }
}
