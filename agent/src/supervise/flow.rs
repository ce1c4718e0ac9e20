//! The movement of a command's input and output, until they have ended, or have been emptied after
//! the exit of its leader.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use workspace_common::drain::Drain;

use super::{
    output::{Output, Stream},
    pipe::{Sink, Source},
    spawn::Ends,
    task::Input,
};

/// What was written to a terminal before its command ended comes through a queue of the kernel's;
/// when nothing has come for so long, that is empty.
const TERMINAL_QUIET: Duration = Duration::from_millis(20);
/// A descendant may write to the terminal for ever.
const TERMINAL_LINGER: Duration = Duration::from_millis(100);

/// The movement of data, which goes on beside whatever decides about the process, and the answer it
/// came to: whether a pipe is still held open.
pub(super) struct Moving<F> {
    future: Pin<Box<F>>,
    held_open: Option<bool>,
}

impl<F: Future<Output = bool>> Moving<F> {
    pub(super) fn new(future: F) -> Self {
        Self { future: Box::pin(future), held_open: None }
    }

    /// Runs `main` to its end, and the movement as far as it comes meanwhile.
    pub(super) async fn beside<M: Future>(&mut self, main: M) -> M::Output {
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
    pub(super) async fn finish(&mut self) -> bool {
        match self.held_open {
            Some(held_open) => held_open,
            None => self.future.as_mut().await,
        }
    }
}

/// Moves input and output until both outputs have ended, or have been emptied after the exit. Says
/// whether a descendant may still hold one of them.
pub(super) async fn move_data(
    ends: &Ends,
    stdin: Option<Sink>,
    input: Input,
    output: &Output,
    exited: &CancellationToken,
) -> bool {
    let terminal = ends.terminal.is_some();
    let stdout = Pump { end: &ends.stdout, output, stream: Stream::Stdout, terminal };
    let stderr = async {
        match &ends.stderr {
            Some(end) => Pump { end, stream: Stream::Stderr, ..stdout }.run(exited).await,
            None => false,
        }
    };
    let (_, out_open, err_open) =
        tokio::join!(exited.run_until_cancelled(feed(stdin, input)), stdout.run(exited), stderr,);
    out_open || err_open
}

/// Moves one stream of output.
#[derive(Clone, Copy)]
struct Pump<'a> {
    end: &'a Source,
    output: &'a Output,
    stream: Stream,
    terminal: bool,
}

impl Pump<'_> {
    /// Says whether somebody holds the other end still.
    async fn run(&self, exited: &CancellationToken) -> bool {
        self.until_exit(exited).await && self.what_is_left().await
    }

    /// Moves output until its end or the leader's; says whether the other end is still open.
    async fn until_exit(&self, exited: &CancellationToken) -> bool {
        loop {
            let mut spooled = BytesMut::new();
            let read = tokio::select! {
                read = self.next(&mut spooled) => read,
                () = exited.cancelled() => return true,
            };
            self.store(spooled).await;
            if is_end(&read) {
                return false;
            }
        }
    }

    /// Moves what is there now, and no more: a grandchild may write for ever.
    ///
    /// The pipe itself is asked, not the runtime's record of what is readable: the reaper collects
    /// every ended child as soon as one has ended, so an exit can be known here before the runtime
    /// has heard of the output that came first.
    async fn what_is_left(&self) -> bool {
        if self.terminal {
            return timeout(TERMINAL_LINGER, self.until_quiet()).await.unwrap_or(true);
        }
        let mut left = self.end.pending();
        loop {
            let room = self.output.room(self.stream).await;
            let mut spooled = BytesMut::new();
            let read = self.end.read_now(room, |data| self.take(data, &mut spooled));
            self.store(spooled).await;
            match read {
                Ok(0) => return false,
                Ok(read) => left = left.saturating_sub(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_would_block) => return true,
            }
            if left == 0 {
                return true;
            }
        }
    }

    async fn until_quiet(&self) -> bool {
        loop {
            let mut spooled = BytesMut::new();
            let read = timeout(TERMINAL_QUIET, self.next(&mut spooled)).await;
            self.store(spooled).await;
            match read {
                Err(_quiet) => return true,
                Ok(read) if is_end(&read) => return false,
                Ok(_) => {}
            }
        }
    }

    /// Takes what comes next, when there is room for it. Safe to cancel.
    async fn next(&self, spooled: &mut BytesMut) -> io::Result<usize> {
        let room = self.output.room(self.stream).await;
        self.end.read(room, |data| self.take(data, spooled)).await
    }

    /// Passes bytes on at once, unless they have to go into a spool first.
    fn take(&self, data: &[u8], spooled: &mut BytesMut) {
        match self.output.spool(self.stream) {
            Some(_) => spooled.extend_from_slice(data),
            None => self.output.write(self.stream, data),
        }
    }

    /// Spools bytes and then passes them on: who has heard of them finds them in the spool.
    async fn store(&self, spooled: BytesMut) {
        let Some(spool) = self.output.spool(self.stream).filter(|_| !spooled.is_empty()) else {
            return;
        };
        let data = spooled.freeze();
        spool.append(data.clone()).await;
        self.output.write(self.stream, &data);
    }
}

fn is_end(read: &io::Result<usize>) -> bool {
    match read {
        Ok(read) => *read == 0,
        Err(error) => {
            tracing::debug!(%error, "cannot read the output of a command");
            true
        }
    }
}

/// Feeds standard input and closes it. A command that does not want its input is no error.
async fn feed(stdin: Option<Sink>, input: Input) {
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

async fn feed_stream(stdin: &mut Sink, chunks: &mut mpsc::Receiver<Bytes>) -> io::Result<()> {
    while let Some(chunk) = chunks.recv().await {
        stdin.write_all(&chunk).await?;
    }
    Ok(())
}

/// Keeps reading what descendants write, so that their pipe neither fills nor breaks, to the end of
/// the agent: what is ended then gets TERM first, and no SIGPIPE.
pub(super) fn drain_to_sink(drain: &Drain, ends: Ends) {
    drain.spawn_uncounted(async move {
        let sink = async |end: Option<&Source>| {
            let Some(end) = end else { return };
            while end.read(usize::MAX, |_data| {}).await.is_ok_and(|read| read > 0) {}
        };
        tokio::join!(sink(Some(&ends.stdout)), sink(ends.stderr.as_ref()));
        tracing::trace!("descendants closed their output");
    });
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            output::{Keeping, budget::Budget, record::Keep, ring::Piece},
            pipe::for_output,
        },
        *,
    };

    /// The runtime of this test has one thread, which never looks for events before the end: that
    /// is the moment in which an exit is known and the output before it is not.
    #[tokio::test]
    async fn output_that_the_runtime_has_not_heard_of_is_not_lost() {
        let (end, write) = for_output().unwrap();
        let keeping = Keeping { keep: Keep::tail(99), backpressure: false, spool: None };
        let output = Output::new(&keeping, &Budget::new(99)).unwrap();
        let pump = Pump { end: &end, output: &output, stream: Stream::Stdout, terminal: false };
        rustix::io::write(&write, b"last words").unwrap();
        assert!(pump.what_is_left().await, "the other end is open");
        let read = output.read(Stream::Stdout, 0, 99).await.unwrap();
        assert_eq!(read, Piece::Data("last words".into()));
        drop(write);
        assert!(!pump.what_is_left().await, "the other end is closed");
    }
}
