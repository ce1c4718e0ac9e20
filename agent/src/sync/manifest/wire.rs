//! Manifests on the wire: one JSON object a line, and an end line that says how many came before, so
//! that a manifest that was cut is never taken for a tree with less in it.
//!
//! A reader takes nothing on trust: paths are parsed, the order is checked (which refuses duplicates
//! as well), lines have a largest length.

use std::io::{self, Read, Write};

use super::{
    Entry,
    line::{Line, LineError, Lines, Next, entry_of, line_of, write_line},
    order,
};
use crate::files::WorkspacePath;

/// Why a manifest is refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A line is not an entry.
    #[error("line {line} of the manifest is not an entry: {source}")]
    Line {
        /// Its number, from one.
        line: u64,
        /// Why.
        source: LineError,
    },
    /// It ended without its end line.
    #[error("the manifest was cut after {0} entries: its end line is missing")]
    Cut(u64),
    /// It could not be received.
    #[error("the manifest could not be received: {0}")]
    Stream(#[from] io::Error),
}

/// Writes a manifest line by line.
#[derive(Debug)]
pub struct ManifestWriter<W> {
    output: W,
    entries: u64,
}

impl<W: Write> ManifestWriter<W> {
    /// Starts a manifest.
    pub fn new(output: W) -> Self {
        Self { output, entries: 0 }
    }

    /// Writes an entry.
    ///
    /// # Errors
    /// What the output says.
    pub fn append(&mut self, entry: &Entry) -> io::Result<()> {
        self.entries += 1;
        write_line(&mut self.output, &line_of(entry))
    }

    /// Writes the end line.
    ///
    /// # Errors
    /// What the output says.
    pub fn finish(mut self) -> io::Result<W> {
        // Written by hand: the other fields are not in it.
        writeln!(self.output, "{{\"entries\":{}}}", self.entries)?;
        Ok(self.output)
    }
}

/// Reads a manifest, entry by entry. After an error there is no more.
#[derive(Debug)]
pub struct ManifestReader<R> {
    lines: Lines<R>,
    entries: u64,
    last: Option<WorkspacePath>,
    ended: bool,
}

impl<R: Read> ManifestReader<R> {
    /// Starts to read.
    pub fn new(input: R) -> Self {
        Self { lines: Lines::new(input), entries: 0, last: None, ended: false }
    }

    fn read_entry(&mut self) -> Result<Option<Entry>, ManifestError> {
        let parsed = match self.lines.next()? {
            Next::Line(line) => parse_line(line, self.entries, self.last.as_ref()),
            Next::TooLong => Err(LineError::TooLong),
            Next::Cut => return Err(ManifestError::Cut(self.entries)),
        };
        let entry = parsed.map_err(|error| self.bad(error))?;
        if let Some(entry) = &entry {
            self.entries += 1;
            self.last = Some(entry.path.clone());
        }
        Ok(entry)
    }

    fn bad(&self, source: LineError) -> ManifestError {
        ManifestError::Line { line: self.entries + 1, source }
    }
}

/// An entry that comes `behind` another; nothing for the end line, which counts `before`.
fn parse_line(
    line: &[u8],
    before: u64,
    behind: Option<&WorkspacePath>,
) -> Result<Option<Entry>, LineError> {
    let line: Line<'_> = serde_json::from_slice(line)?;
    match line.entries {
        Some(count) if count == before => return Ok(None),
        Some(count) => return Err(LineError::Count(count)),
        None => {}
    }
    let entry = entry_of(line)?;
    match behind {
        Some(last) if order(last, &entry.path).is_ge() => Err(LineError::Order),
        _ => Ok(Some(entry)),
    }
}

impl<R: Read> Iterator for ManifestReader<R> {
    type Item = Result<Entry, ManifestError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.read_entry();
        self.ended = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

#[cfg(test)]
mod tests;
