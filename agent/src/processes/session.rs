//! One attached client: output goes to it as it comes, and what it sends is typed into the command,
//! or done to it.
//!
//! Text messages are JSON, binary ones are bytes: of output with a kind and an offset before them, of
//! input without anything.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{
    Sink, SinkExt, Stream, StreamExt,
    future::{Either, select},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::control::{Scope, WireSignal, WireSize};
use crate::{
    exec::{
        frame,
        reply::{error_event, last_event},
        stream::{gap_event, stream_kind},
    },
    supervise::{
        process::Process,
        reader::{Item, Reader},
    },
};

/// After so long without output a ping is sent.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How long a client may take to answer a close.
const FAREWELL: Duration = Duration::from_secs(2);
/// Input that may wait for the command, in bytes; beyond it nothing more is read from the client.
const MAX_TYPED: usize = 1 << 20;
/// The longest reason that a close may give (RFC 6455, section 5.5).
const MAX_REASON: usize = 123;

/// What a client wants done.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    resize: Option<WireSize>,
    signal: Option<String>,
    scope: Option<Scope>,
    eof: Option<bool>,
}

/// Serves one client until the command has ended, the client goes, or it sends nonsense.
pub(super) async fn serve<IO>(socket: WebSocketStream<IO>, reader: Reader)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    let process = reader.process().clone();
    let (mut to, mut from) = socket.split();
    let close = {
        let sending = std::pin::pin!(send_output(&mut to, reader));
        let receiving = std::pin::pin!(receive(&mut from, &process));
        match select(sending, receiving).await {
            Either::Left((sent, _)) => sent.ok().map(|()| frame_of(CloseCode::Normal, "")),
            Either::Right((reason, _)) => reason.map(|reason| frame_of(CloseCode::Policy, &reason)),
        }
    };
    let Some(close) = close else { return };
    // The client may have gone.
    to.send(Message::Close(Some(close))).await.ok();
    // What it still types is read and dropped: closing a socket with unread input resets it, and the
    // end of the output would be lost on its way (tcp(7)).
    let farewell = async { while from.next().await.is_some_and(|message| message.is_ok()) {} };
    tokio::time::timeout(FAREWELL, farewell).await.ok();
}

fn frame_of(code: CloseCode, reason: &str) -> CloseFrame {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    CloseFrame { code, reason: reason.get(..end).unwrap_or_default().into() }
}

/// Sends everything up to the end of the command.
async fn send_output<S>(to: &mut S, mut reader: Reader) -> Result<(), Error>
where
    S: Sink<Message, Error = Error> + Unpin,
{
    let process = reader.process().clone();
    let mut attached = crate::exec::reply::started(&process);
    attached.insert("event".into(), "attached".into());
    attached.insert("tty".into(), process.has_terminal().into());
    to.send(text(&Value::Object(attached))).await?;
    loop {
        let next = tokio::select! {
            next = reader.next() => next,
            // A client that has silently gone, or whose input waits for the command, is found by this.
            () = tokio::time::sleep(PING_INTERVAL) => {
                to.send(Message::Ping(Bytes::new())).await?;
                continue;
            }
        };
        match next {
            Ok(Some(item)) => to.send(message(&process, item)).await?,
            Ok(None) => return Ok(()),
            Err(error) => {
                let event = error_event("spool_unreadable", &error.to_string());
                return to.send(text(&event)).await;
            }
        }
    }
}

fn message(process: &Process, item: Item) -> Message {
    match item {
        Item::Data { stream, offset, data } => {
            let head = frame::message_head(stream_kind(process, stream), offset);
            let mut message = BytesMut::with_capacity(head.len() + data.len());
            message.extend_from_slice(&head);
            message.extend_from_slice(&data);
            Message::Binary(message.freeze())
        }
        Item::Gap { stream, from, to } => text(&gap_event(process, stream, from, to)),
        Item::End(state) => text(&last_event(process, &state)),
    }
}

fn text(event: &Value) -> Message {
    Message::text(event.to_string())
}

/// Does what the client says until it goes. Gives the reason when it has said nonsense. Input that the
/// command does not read waits, up to a limit, and does not keep what else the client says from being
/// heard.
async fn receive<S>(from: &mut S, process: &Arc<Process>) -> Option<String>
where
    S: Stream<Item = Result<Message, Error>> + Unpin,
{
    let mut typed = Typed::default();
    loop {
        let message = tokio::select! {
            message = from.next(), if typed.has_room() => message?,
            () = typed.pass_on(process), if !typed.is_empty() => continue,
        };
        let done = match message {
            Ok(Message::Binary(input)) => {
                typed.push(input);
                Ok(())
            }
            Ok(Message::Text(text)) => fulfil(process, text.as_bytes(), &mut typed).await,
            // The library answers pings by itself.
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Ok(()),
            Ok(Message::Close(_)) => return None,
            Err(Error::Capacity(error)) => return Some(error.to_string()),
            Err(_gone) => return None,
        };
        if let Err(reason) = done {
            return Some(reason);
        }
    }
}

/// Input that has come and is not yet with the command.
#[derive(Default)]
struct Typed {
    waiting: VecDeque<Input>,
    bytes: usize,
}

enum Input {
    Bytes(Bytes),
    End,
}

impl Typed {
    fn has_room(&self) -> bool {
        self.bytes < MAX_TYPED
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn push(&mut self, input: Bytes) {
        self.bytes += input.len();
        self.waiting.push_back(Input::Bytes(input));
    }

    /// Passes the first on. What a command that has closed its input gets is lost, as it is at a
    /// terminal. Safe to cancel.
    async fn pass_on(&mut self, process: &Process) {
        match self.waiting.front() {
            None => {}
            Some(Input::End) => {
                process.close_stdin().await;
                self.waiting.pop_front();
            }
            Some(Input::Bytes(_)) => {
                let stdin = process.stdin();
                let place = match &stdin {
                    Some(stdin) => stdin.reserve().await.ok(),
                    None => None,
                };
                if let Some(Input::Bytes(input)) = self.waiting.pop_front() {
                    self.bytes -= input.len();
                    place.into_iter().for_each(|place| place.send(input.clone()));
                }
            }
        }
    }
}

async fn fulfil(process: &Process, text: &[u8], typed: &mut Typed) -> Result<(), String> {
    let wish: Wish = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let problem = |problem: workspace_common::problem::Problem| problem.detail;
    match wish {
        Wish { resize: Some(size), signal: None, scope: None, eof: None } => {
            // A size that comes with the end of the command is late, not wrong.
            match size.apply(process) {
                Err(late) if late.code == "not_running" => Ok(()),
                other => other.map_err(problem),
            }
        }
        Wish { resize: None, signal: Some(signal), scope, eof: None } => {
            WireSignal::new(signal, scope).send(process).await.map(|_count| ()).map_err(problem)
        }
        Wish { resize: None, signal: None, scope: None, eof: Some(true) } => {
            typed.waiting.push_back(Input::End);
            Ok(())
        }
        _ => Err("send one of resize, signal, and eof: true".to_owned()),
    }
}
