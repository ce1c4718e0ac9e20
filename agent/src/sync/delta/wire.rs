//! Lists of chunks on the wire: one JSON object a chunk, and an end line that counts them, so that
//! a list that was cut is never taken for a shorter file.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use super::{Chunk, MAX_CHUNKS, chunker::MAX_CHUNK};
use crate::sync::manifest::{
    hash::ContentHash,
    line::{Lines, Next},
};

/// Why a list of chunks is refused.
#[derive(Debug, thiserror::Error)]
pub enum ChunksError {
    /// A line is no chunk.
    #[error("line {line} of the list of chunks is none: {reason}")]
    Line {
        /// Its number, from one.
        line: usize,
        /// Why.
        reason: String,
    },
    /// It ended without its end line.
    #[error("the list of chunks was cut after {0} of them: its end line is missing")]
    Cut(usize),
    /// It is longer than any.
    #[error("the list has more than {MAX_CHUNKS} chunks; such a file is sent whole")]
    TooMany,
    /// It could not be received.
    #[error("the list of chunks could not be received: {0}")]
    Stream(#[from] io::Error),
}

#[derive(Serialize)]
struct ChunkLine {
    length: u32,
    blake3: ContentHash,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyLine {
    length: Option<u32>,
    blake3: Option<ContentHash>,
    chunks: Option<usize>,
}

/// Writes a list line by line.
#[derive(Debug)]
pub struct ChunkWriter<W> {
    output: W,
    chunks: usize,
}

impl<W: Write> ChunkWriter<W> {
    /// Starts a list.
    pub fn new(output: W) -> Self {
        Self { output, chunks: 0 }
    }

    /// Writes a chunk.
    ///
    /// # Errors
    /// What the output says.
    pub fn append(&mut self, chunk: Chunk) -> io::Result<()> {
        self.chunks += 1;
        let line = ChunkLine { length: chunk.length, blake3: chunk.hash };
        serde_json::to_writer(&mut self.output, &line)?;
        self.output.write_all(b"\n")
    }

    /// Writes the end line.
    ///
    /// # Errors
    /// What the output says.
    pub fn finish(mut self) -> io::Result<W> {
        writeln!(self.output, "{{\"chunks\":{}}}", self.chunks)?;
        Ok(self.output)
    }
}

/// Reads a list to its end.
///
/// # Errors
/// When a line is no chunk, there are too many, or the list is cut.
pub fn read_chunks(input: impl Read) -> Result<Vec<Chunk>, ChunksError> {
    let mut lines = Lines::new(input);
    let mut chunks = Vec::new();
    loop {
        let bad = |reason: String| ChunksError::Line { line: chunks.len() + 1, reason };
        let parsed = match lines.next()? {
            Next::Line(line) => parse_line(line, chunks.len()).map_err(bad)?,
            Next::TooLong => return Err(bad("it is longer than 64 KiB".to_owned())),
            Next::Cut => return Err(ChunksError::Cut(chunks.len())),
        };
        match parsed {
            None => return Ok(chunks),
            Some(_) if chunks.len() == MAX_CHUNKS => return Err(ChunksError::TooMany),
            Some(chunk) => chunks.push(chunk),
        }
    }
}

/// A chunk; nothing for the end line, which counts `before`.
fn parse_line(line: &[u8], before: usize) -> Result<Option<Chunk>, String> {
    let line: AnyLine = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    match line {
        AnyLine { length: None, blake3: None, chunks: Some(count) } if count == before => Ok(None),
        AnyLine { chunks: Some(count), .. } => {
            Err(format!("it counts {count} chunks, and {before} came"))
        }
        AnyLine { length: Some(length), blake3: Some(hash), chunks: None }
            if usize::try_from(length).is_ok_and(|n| (1..=MAX_CHUNK).contains(&n)) =>
        {
            Ok(Some(Chunk { length, hash }))
        }
        AnyLine { .. } => Err("it lacks a length from 1 to 1048576, or its blake3".to_owned()),
    }
}
