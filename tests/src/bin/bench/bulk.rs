//! Bulk output of one command, as text and as bytes that are none: through the agent in both forms of
//! a stream, through Python as lines with base64, and read from the command's own pipe.

use std::{fs, io::Read, path::Path, time::Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use workspace_tests::{agent::Agent, http::Connection};

use crate::{
    floor, pace, process,
    row::{Measured, Role, Row, Unit},
    series::Series,
    server::{PYTHON, Python, Server},
    transfer::Form,
};

const ROUNDS: usize = 3;
/// The command writes a file of this size again and again: what it costs must not be the figure.
const PIECE: usize = 8 << 20;
const TIMES: usize = 64;
const TOTAL: u64 = (PIECE * TIMES) as u64;
const BARE: &str = "bare pipe";

/// What the command writes.
#[derive(Debug, Clone, Copy)]
enum Content {
    Text,
    Bytes,
}

impl Content {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Bytes => "bytes that are no text",
        }
    }

    fn piece(self) -> Vec<u8> {
        match self {
            Self::Text => b"2026-01-01T00:00:00Z INFO compiled module 1234 of 5678 in 0.9 s\n"
                .repeat(PIECE / 64),
            Self::Bytes => {
                let mut random = 0x9e37_79b9_7f4a_7c15_u64;
                let words = std::iter::repeat_with(|| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    random.to_le_bytes()
                });
                words.take(PIECE / 8).flatten().collect()
            }
        }
    }
}

pub(crate) fn measure() -> Result<Vec<Row>> {
    let (agent, python) = (Agent::start()?, Python::start()?);
    let mut rows = Vec::new();
    for content in [Content::Text, Content::Bytes] {
        rows.extend(rounds(&agent, &python, content)?);
    }
    let peak = Series::single(process::peak_kib(agent.daemon.pid())? / 1024.0);
    rows.push(Row::new("agent: most memory (RSS) during bulk output", Unit::MebiBytes, Ok(peak)));
    Ok(rows)
}

fn rounds(agent: &Agent, python: &Python, content: Content) -> Result<Vec<Row>> {
    let (root, ours) = (agent.root(), Server::of_agent(agent));
    fs::write(root.join("piece"), content.piece())?;
    let mut argv = vec!["cat"];
    argv.resize(1 + TIMES, "piece");
    // The command waits for its reader, so that no byte is left out. The peer knows no other way.
    let body = json!({ "argv": argv, "cwd": root, "env": {}, "backpressure": true }).to_string();
    let (mut frames, mut lines) = (Vec::new(), Vec::new());
    let (mut bare, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..pace::rounds(ROUNDS) {
        frames.push(stream(&ours, &body, Form::Frames)?);
        lines.push(stream(&ours, &body, Form::Lines)?);
        bare.push(bare_pipe(&argv, &root)?);
        peer.push(peer_stream(python, &body)?);
    }
    let bare: Series = bare.into_iter().collect();
    let peer: Measured = peer.into_iter().collect();
    let row = |form: &str, ours: Vec<Result<f64, String>>| {
        let what = format!("agent: output of {} MiB of {}, {form}", TOTAL >> 20, content.name());
        let row = Row::new(what, Unit::MebiBytesPerSecond, ours.into_iter().collect());
        [
            row.clone().beside(Role::Floor, BARE, Ok(bare.clone())),
            row.beside(Role::Peer, PYTHON, peer.clone()),
        ]
    };
    Ok([row("frames", frames), row("JSON lines", lines)].concat())
}

/// The same from the peer, which has lines only.
fn peer_stream(python: &Python, body: &str) -> Result<Result<f64, String>> {
    match python.server() {
        Ok(server) => stream(server, body, Form::Lines),
        Err(reason) => Ok(Err(reason)),
    }
}

/// One download, in MiB/s; or that the server does not offer the form.
fn stream(server: &Server, body: &str, form: Form) -> Result<Result<f64, String>> {
    let mut connection = Connection::open(&server.endpoint)?;
    let begun = Instant::now();
    connection.send(&server.exec_request(body.as_bytes(), form.accept()))?;
    let head = connection.read_head()?;
    if head.status == 406 {
        return Ok(Err("not offered by this agent".to_owned()));
    }
    ensure!(head.status == 200, "{head:?}");
    let received = form.read(&mut connection)?;
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(received == TOTAL, "{received} bytes came of {TOTAL}");
    Ok(Ok(mebibytes_per_second(seconds)))
}

fn bare_pipe(argv: &[&str], directory: &Path) -> Result<f64> {
    // As much as a pipe holds.
    let mut buffer = vec![0; 64 << 10];
    let begun = Instant::now();
    let mut child = floor::command(argv, directory).spawn()?;
    let mut pipe = child.stdout.take().expect("a pipe");
    let mut received = 0;
    loop {
        match pipe.read(&mut buffer)? {
            0 => break,
            read => received += read as u64,
        }
    }
    let status = child.wait()?;
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(status.success() && received == TOTAL, "{status}, {received} bytes");
    Ok(mebibytes_per_second(seconds))
}

fn mebibytes_per_second(seconds: f64) -> f64 {
    (TOTAL >> 20) as f64 / seconds
}
