//! Reading bulk output as a client does, in each form that it comes in. Nothing is decoded that need
//! not be, so that the figures are the server's and not this driver's; but a reply with a gap or
//! without an end is refused.

use std::io::{self, BufRead, Read};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use workspace_tests::http::Connection;

/// Longer lines are output: what says something about the command is shorter.
const LONGEST_NOTE: usize = 4096;

/// The forms of a streamed reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A JSON object a line; bytes that are no text are base64.
    Lines,
    /// Length-prefixed frames with the bytes as they are.
    Frames,
}

impl Form {
    pub(crate) fn accept(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::Frames => "application/vnd.workspace.frames",
        }
    }

    /// Reads a reply to its end and says how many bytes of standard output it carried.
    pub(crate) fn read(self, connection: &mut Connection) -> Result<u64> {
        let mut body = Body { connection, chunk: Vec::new(), used: 0 };
        match self {
            Self::Lines => read_lines(&mut body),
            Self::Frames => read_frames(&mut body),
        }
    }
}

/// A chunked body, without its framing.
struct Body<'a> {
    connection: &'a mut Connection,
    chunk: Vec<u8>,
    used: usize,
}

impl BufRead for Body<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.chunk.len() {
            let next = self.connection.read_chunk().map_err(io::Error::other)?;
            (self.chunk, self.used) = (next.unwrap_or_default(), 0);
        }
        Ok(&self.chunk[self.used..])
    }

    fn consume(&mut self, amount: usize) {
        self.used += amount;
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

fn read_lines(body: &mut impl BufRead) -> Result<u64> {
    let mut line = Vec::new();
    loop {
        line.clear();
        ensure!(body.read_until(b'\n', &mut line)? > 0, "the reply has no end");
        if line.len() <= LONGEST_NOTE
            && let Some(bytes) = end(&serde_json::from_slice(&line)?)?
        {
            return Ok(bytes);
        }
    }
}

/// A byte for the kind, four for the length of the payload, which for output begins with its offset.
fn read_frames(body: &mut impl Read) -> Result<u64> {
    let (mut received, mut payload) = (0, Vec::new());
    loop {
        let (mut kind, mut length) = ([0], [0; 4]);
        body.read_exact(&mut kind).context("the reply has no end")?;
        body.read_exact(&mut length)?;
        payload.resize(u32::from_be_bytes(length) as usize, 0);
        body.read_exact(&mut payload)?;
        if kind == [0] {
            if let Some(bytes) = end(&serde_json::from_slice(&payload)?)? {
                ensure!(bytes == received, "{received} bytes came of {bytes}");
                return Ok(received);
            }
            continue;
        }
        let (offset, data) = payload.split_first_chunk().context("a frame without an offset")?;
        ensure!(u64::from_be_bytes(*offset) == received, "a gap at {received}");
        received += data.len() as u64;
    }
}

/// What an event says about the end: the bytes written to standard output, if it is the end.
fn end(event: &Value) -> Result<Option<u64>> {
    match event["event"].as_str() {
        Some("exited") if event["exit_code"] == 0 => Ok(event["stdout_bytes"].as_u64()),
        Some("exited" | "gap" | "error") => bail!("the output did not come whole: {event}"),
        _ => Ok(None),
    }
}
