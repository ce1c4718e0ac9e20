//! One attached connection from its beginning to its end: output, input and the size of our
//! terminal, each at its own pace. The terminal is in raw mode for as long as it lasts, and what it
//! was again however it ends.

use std::{convert::Infallible, io, pin::pin};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::AsyncReadExt,
    signal::unix::{Signal, SignalKind, signal},
};

use super::{
    keys::DetachKeys,
    socket::{Closed, Connection, Receiver, Sender},
};
use crate::{
    client::{
        ending::Exit,
        event::Told,
        failure::Failure,
        output::{End, Output},
        terminal::{RawMode, Size},
    },
    files::path::printable,
};

/// Size of one read from standard input.
const CHUNK: usize = 64 * 1024;

/// What the command gets of our standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client) enum Input {
    /// Nothing.
    None,
    /// All of it.
    Standard,
    /// All of it, but for the keys that leave.
    WithDetachKeys,
}

/// How it was left.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::client) enum Left {
    /// The command has ended.
    Exited(Exit),
    /// By the detach keys; the command runs on.
    Detached,
}

/// Passes everything on until the command ends or we leave it.
///
/// # Errors
/// When the connection breaks, or our input or output does.
pub(in crate::client) async fn run(
    connection: Connection,
    input: Input,
    mut output: Output,
) -> Result<Left, Failure> {
    let Connection { mut sender, mut receiver } = connection;
    let tty = attached(&mut receiver).await?;
    let raw = if tty && input != Input::None { RawMode::of_stdin()? } else { None };
    if raw.is_some() {
        output.is_raw();
    }
    let keys = (raw.is_some() && input == Input::WithDetachKeys).then(DetachKeys::default);
    let resized = signal(SignalKind::window_change())?;
    let ours = Ours { keys, open: input != Input::None, tty, resized };
    let mut following = pin!(follow(&mut receiver, &mut output));
    let stop = tokio::select! {
        exit = &mut following => return exit.map(Left::Exited),
        Err(stop) = ours.pass_on(&mut sender) => stop,
    };
    match stop {
        Stop::Detached => Ok(Left::Detached),
        Stop::Unreadable(error) => Err(Failure::Input(error)),
        // What came last says why.
        Stop::Closed => following.await.map(Left::Exited),
    }
}

/// The first message says what the command is.
async fn attached(receiver: &mut Receiver) -> Result<bool, Failure> {
    match receiver.next().await? {
        Told::Attached { tty } => Ok(tty),
        Told::Failed { detail } => Err(Failure::Lost(printable(detail.as_bytes()))),
        _ => Err(Failure::Lost("the connection does not begin with 'attached'".to_owned())),
    }
}

async fn follow(receiver: &mut Receiver, output: &mut Output) -> Result<Exit, Failure> {
    loop {
        if let Some(End::Exited(exit)) = output.take(receiver.next().await?).await? {
            return Ok(exit);
        }
    }
}

/// What there is on our side for the command.
struct Ours {
    keys: Option<DetachKeys>,
    open: bool,
    tty: bool,
    resized: Signal,
}

/// Why nothing more is passed on.
enum Stop {
    /// The keys said so.
    Detached,
    /// Our input cannot be read.
    Unreadable(io::Error),
    /// The connection takes no more.
    Closed,
}

impl From<Closed> for Stop {
    fn from(Closed: Closed) -> Self {
        Self::Closed
    }
}

impl Ours {
    async fn pass_on(mut self, sender: &mut Sender) -> Result<Infallible, Stop> {
        let mut stdin = tokio::io::stdin();
        let mut buffer = BytesMut::new();
        self.resize(sender).await?;
        loop {
            buffer.reserve(CHUNK);
            // A read that is dropped has taken nothing; changes of size that come at once are one.
            tokio::select! {
                read = stdin.read_buf(&mut buffer), if self.open => {
                    let read = read.map_err(Stop::Unreadable)?;
                    self.input(buffer.split_to(read).freeze(), sender).await?;
                }
                _ = self.resized.recv() => self.resize(sender).await?,
            }
        }
    }

    async fn input(&mut self, input: Bytes, sender: &mut Sender) -> Result<(), Stop> {
        if input.is_empty() {
            self.open = false;
            return Ok(sender.eof().await?);
        }
        let Some(keys) = &mut self.keys else { return Ok(sender.input(input).await?) };
        let typed = keys.take(&input);
        if !typed.bytes.is_empty() {
            sender.input(typed.bytes.into()).await?;
        }
        if typed.detach {
            sender.leave().await?;
            return Err(Stop::Detached);
        }
        Ok(())
    }

    async fn resize(&self, sender: &mut Sender) -> Result<(), Closed> {
        match Size::of_ours().filter(|_| self.tty) {
            Some(size) => sender.resize(size).await,
            None => Ok(()),
        }
    }
}
