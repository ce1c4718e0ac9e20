//! A client that is attached to a command by WebSocket.

use std::{os::unix::net::UnixStream, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tungstenite::{
    Message, WebSocket,
    client::client,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::agent::Agent;

/// An attached client.
#[derive(Debug)]
pub struct Attached {
    socket: WebSocket<UnixStream>,
}

/// What comes from the agent.
#[derive(Debug, PartialEq)]
pub enum Incoming {
    /// Output: kind, offset, bytes.
    Output(u8, u64, Vec<u8>),
    /// An event.
    Event(Value),
    /// The end, with its code and reason.
    Closed(u16, String),
}

impl Attached {
    /// Attaches to the command `id` over the Unix socket.
    ///
    /// # Errors
    /// When that is refused.
    pub fn open(agent: &Agent, id: &str, query: &str) -> Result<Self> {
        let stream = UnixStream::connect(agent.socket())?;
        // Only a server that hangs makes a test wait this long.
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let url = format!("ws://localhost/v1/processes/{id}/attach{query}");
        let (socket, _response) = client(url, stream)
            .map_err(|error| anyhow::anyhow!("the handshake failed: {error}"))?;
        Ok(Self { socket })
    }

    /// Types input.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn type_in(&mut self, input: &[u8]) -> Result<()> {
        Ok(self.socket.send(Message::binary(input.to_vec()))?)
    }

    /// Says something.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn say(&mut self, text: &str) -> Result<()> {
        Ok(self.socket.send(Message::text(text.to_owned()))?)
    }

    /// The next message.
    ///
    /// # Errors
    /// When the connection breaks, or the message makes no sense.
    pub fn receive(&mut self) -> Result<Incoming> {
        loop {
            return Ok(match self.socket.read()? {
                Message::Text(text) => Incoming::Event(serde_json::from_str(&text)?),
                Message::Binary(message) => {
                    let (head, data) = message.split_at_checked(9).context("a short message")?;
                    let offset = u64::from_be_bytes(head[1..].try_into()?);
                    Incoming::Output(head[0], offset, data.to_vec())
                }
                Message::Close(frame) => closed(frame),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            });
        }
    }

    /// The next event that is not output.
    ///
    /// # Errors
    /// As [`Attached::receive`], or when the connection is closed first.
    pub fn event(&mut self) -> Result<Value> {
        loop {
            match self.receive()? {
                Incoming::Event(event) => return Ok(event),
                Incoming::Output(..) => {}
                Incoming::Closed(code, reason) => bail!("closed: {code} {reason}"),
            }
        }
    }

    /// Reads output, which has to follow on from `from`, until it contains `text`; gives all of it.
    ///
    /// # Errors
    /// As [`Attached::receive`], or when something else comes first.
    pub fn until(&mut self, from: u64, text: &str) -> Result<String> {
        let mut read = Vec::new();
        loop {
            match self.receive()? {
                Incoming::Output(_, offset, data) => {
                    let expected = from + u64::try_from(read.len())?;
                    ensure!(offset == expected, "offset {offset} instead of {expected}");
                    read.extend(data);
                    let said = String::from_utf8_lossy(&read);
                    if said.contains(text) {
                        return Ok(said.into_owned());
                    }
                }
                other => bail!("{other:?} instead of '{text}' after {read:?}"),
            }
        }
    }
}

fn closed(frame: Option<CloseFrame>) -> Incoming {
    let frame = frame.unwrap_or(CloseFrame { code: CloseCode::Status, reason: "".into() });
    Incoming::Closed(frame.code.into(), frame.reason.to_string())
}
