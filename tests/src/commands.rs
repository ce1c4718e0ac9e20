//! Commands of an agent by their ids: starting, following and ending them.

use std::fs;

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    agent::{Agent, text},
    http::{Client, Connection, Response},
    wait::eventually,
};

/// Starts a command by `POST /v1/processes` and gives its id.
///
/// # Errors
/// When it is refused.
pub fn start(agent: &Agent, body: &Value) -> Result<String> {
    let reply = agent.client.send_json("POST", "/v1/processes", body)?;
    ensure!(reply.status() == 201, "{}: {}", reply.status(), reply.text());
    Ok(text(&reply.json()?, "id")?.to_owned())
}

/// What is known of a command.
///
/// # Errors
/// When it is unknown.
pub fn show(agent: &Agent, id: &str) -> Result<Value> {
    let reply = agent.client.get(&format!("/v1/processes/{id}"))?;
    ensure!(reply.status() == 200, "{}: {}", reply.status(), reply.text());
    reply.json()
}

/// Waits for the end of a command, and gives what is known of it then.
///
/// # Errors
/// When it does not end.
pub fn ended(agent: &Agent, id: &str) -> Result<Value> {
    eventually("the command has ended", || {
        show(agent, id).ok().filter(|shown| shown["state"] == "ended")
    })
}

/// The events of a command's output.
///
/// # Errors
/// When they cannot be had.
pub fn output(agent: &Agent, id: &str, query: &str) -> Result<Vec<Value>> {
    let reply = agent.client.get(&format!("/v1/processes/{id}/output{query}"))?;
    ensure!(reply.status() == 200, "{}: {}", reply.status(), reply.text());
    ensure!(reply.header("content-type") == Some("application/x-ndjson"), "another type");
    reply.text().lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// The bytes that an event of output carries.
///
/// # Errors
/// When it carries none.
pub fn bytes(event: &Value) -> Result<Vec<u8>> {
    match event["data"].as_str() {
        Some(text) => Ok(text.as_bytes().to_vec()),
        None => Ok(STANDARD.decode(text(event, "data_base64")?)?),
    }
}

/// All bytes of a stream, which have to follow each other from `from` on.
///
/// # Errors
/// When they do not.
pub fn stream(events: &[Value], name: &str, from: u64) -> Result<Vec<u8>> {
    let mut collected = Vec::new();
    for event in events.iter().filter(|event| event["event"] == name) {
        let position = from + u64::try_from(collected.len())?;
        ensure!(event["offset"] == position, "{} instead of {position}", event["offset"]);
        collected.extend(bytes(event)?);
    }
    Ok(collected)
}

/// The last event.
///
/// # Errors
/// When there is none.
pub fn last(events: &[Value]) -> Result<&Value> {
    events.last().context("no event")
}

/// A reader of events, line by line as they come.
#[derive(Debug)]
pub struct Follower {
    connection: Connection,
    text: String,
}

impl Follower {
    /// Follows the output of a command.
    ///
    /// # Errors
    /// When that is refused.
    pub fn open(client: &Client, id: &str, query: &str) -> Result<Self> {
        let target = format!("/v1/processes/{id}/output?follow=true{query}");
        Self::of(client, &client.request("GET", &target, b""))
    }

    /// Follows the answer to an exec.
    ///
    /// # Errors
    /// When it is refused.
    pub fn exec(client: &Client, body: &Value) -> Result<Self> {
        let client = client.clone().with("accept", "application/x-ndjson");
        Self::of(&client, &client.request("POST", "/v1/exec", body.to_string().as_bytes()))
    }

    /// Follows the answer to any request.
    ///
    /// # Errors
    /// When it is no success.
    pub fn of(client: &Client, request: &[u8]) -> Result<Self> {
        let mut connection = Connection::open(client.endpoint())?;
        connection.send(request)?;
        ensure!(connection.read_head()?.status == 200, "refused");
        Ok(Self { connection, text: String::new() })
    }

    /// The next event; `None` at the end.
    ///
    /// # Errors
    /// When the answer breaks off, or a line is no JSON.
    pub fn next_event(&mut self) -> Result<Option<Value>> {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let event = serde_json::from_str(line)?;
                self.text = rest.to_owned();
                return Ok(Some(event));
            }
            match self.connection.read_chunk()? {
                Some(chunk) => self.text += &String::from_utf8(chunk)?,
                None => return Ok(None),
            }
        }
    }

    /// All events that are still to come.
    ///
    /// # Errors
    /// As [`Follower::next_event`].
    pub fn rest(&mut self) -> Result<Vec<Value>> {
        let mut events = Vec::new();
        while let Some(event) = self.next_event()? {
            events.push(event);
        }
        Ok(events)
    }
}

/// Whether a process that the agent sees is there and not only waiting to be collected.
///
/// # Panics
/// When the agent has to be asked and does not answer.
pub fn alive(agent: &Agent, pid: &str) -> bool {
    let stat = agent.proc_stat(pid).expect("the agent looks at its processes");
    !stat.is_empty() && !stat.contains(") Z ")
}

/// The process ids that a command has written into a file of the workspace, one a line.
///
/// # Errors
/// When they do not come.
pub fn pids(agent: &Agent, file: &str, count: usize) -> Result<Vec<String>> {
    eventually("the processes have started", || {
        let text = fs::read_to_string(agent.root().join(file)).ok()?;
        let pids: Vec<String> = text.lines().map(str::to_owned).collect();
        (text.ends_with('\n') && pids.len() == count).then_some(pids)
    })
}

/// Ends a command with everything it started.
///
/// # Errors
/// When there is no answer.
pub fn delete(agent: &Agent, id: &str, query: &str) -> Result<Response> {
    agent.client.send("DELETE", &format!("/v1/processes/{id}{query}"), b"")
}

/// Waits until a command has written and does not go on: everything between it and its reader is
/// full. Gives how much it has written.
///
/// # Errors
/// When it goes on and on.
pub fn stands_still(agent: &Agent, id: &str) -> Result<u64> {
    let (mut position, mut still) = (0, 0);
    eventually("the command waits for its reader", || {
        let written = show(agent, id).ok()?["stdout_bytes"].as_u64()?;
        still = if written == position { still + 1 } else { 0 };
        position = written;
        (written > 0 && still > 20).then_some(written)
    })
}
