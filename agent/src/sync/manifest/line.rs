//! One entry as a line of JSON, in manifests and in lists of changes.

use std::{
    borrow::Cow,
    io::{self, BufRead, BufReader, Read, Write},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

use super::{Entry, Node, hash::ContentHash};
use crate::{
    files::{
        WorkspacePath,
        metadata::{FileTime, PERMISSION_BITS},
        path::{MAX_PATH, PathError},
        transfer::CHUNK,
    },
    sync::archive::SkipReason,
};

/// Longest line: a path and a link target, every byte of both escaped or as base64.
const MAX_LINE: u64 = 64 * 1024;

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// It is no JSON of this form.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The path is none.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A base64 text is none.
    #[error("it has a base64 text that is none")]
    Base64,
    /// It lacks a field that its kind has.
    #[error("it lacks '{0}'")]
    Lacks(&'static str),
    /// It does not come behind the entry before.
    #[error("it is out of order, or comes twice")]
    Order,
    /// It is longer than any entry.
    #[error("it is longer than 64 KiB")]
    TooLong,
    /// The end line counts differently.
    #[error("the end line counts {0} entries")]
    Count(u64),
}

/// A line, as both ends have it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sync) struct Line<'a> {
    /// What is to be done with it, in a list of changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) change: Option<ChangeWord>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    path: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<LineKind>,
    #[serde(default, skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(default)]
    mode: u32,
    /// Seconds since 1970, and nanoseconds.
    #[serde(default)]
    mtime: (i64, u32),
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    target: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blake3: Option<ContentHash>,
    /// Only in the last line: how many came before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) entries: Option<u64>,
    /// Only in the last line of a list of changes: how many entries the target has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::sync) target_entries: Option<u64>,
}

/// The words for what is to be done with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::sync) enum ChangeWord {
    Create,
    Update,
    Touch,
    Remove,
    Skip,
}

/// The words for what an entry is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LineKind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    Device,
    Unreadable,
    TooDeep,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde wants")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Text, or base64 where the bytes are no text.
fn text_or_base64(bytes: &[u8]) -> (Option<Cow<'_, str>>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.into()), None),
        Err(_) => (None, Some(BASE64_STANDARD.encode(bytes))),
    }
}

fn bytes_of(
    text: Option<Cow<'_, str>>,
    base64: Option<String>,
    what: &'static str,
) -> Result<Vec<u8>, LineError> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into_owned().into_bytes()),
        (None, Some(base64)) => BASE64_STANDARD.decode(base64).map_err(|_cause| LineError::Base64),
        _ => Err(LineError::Lacks(what)),
    }
}

/// The line of an entry.
pub(in crate::sync) fn line_of(entry: &Entry) -> Line<'_> {
    let (path, path_base64) = text_or_base64(entry.path.as_bytes());
    let FileTime { seconds, nanoseconds } = entry.modified;
    let mut line = Line { path, path_base64, mode: entry.mode, ..Line::default() };
    line.mtime = (seconds, nanoseconds);
    line.kind = Some(match &entry.node {
        Node::File { size, hash } => {
            (line.size, line.blake3) = (*size, *hash);
            LineKind::File
        }
        Node::Directory => LineKind::Directory,
        Node::Symlink(target) => {
            (line.target, line.target_base64) = text_or_base64(target);
            LineKind::Symlink
        }
        Node::Skipped(SkipReason::Fifo) => LineKind::Fifo,
        Node::Skipped(SkipReason::Socket) => LineKind::Socket,
        Node::Skipped(SkipReason::Device) => LineKind::Device,
        Node::Skipped(SkipReason::Unreadable) => LineKind::Unreadable,
        Node::Skipped(SkipReason::TooDeep) => LineKind::TooDeep,
    });
    line
}

/// The entry of a line.
pub(in crate::sync) fn entry_of(line: Line<'_>) -> Result<Entry, LineError> {
    let path = WorkspacePath::parse(&bytes_of(line.path, line.path_base64, "path")?)?;
    let node = match line.kind.ok_or(LineError::Lacks("kind"))? {
        LineKind::File => Node::File { size: line.size, hash: line.blake3 },
        LineKind::Directory => Node::Directory,
        LineKind::Symlink => {
            let mut target = bytes_of(line.target, line.target_base64, "target")?;
            target.truncate(MAX_PATH);
            Node::Symlink(target)
        }
        LineKind::Fifo => Node::Skipped(SkipReason::Fifo),
        LineKind::Socket => Node::Skipped(SkipReason::Socket),
        LineKind::Device => Node::Skipped(SkipReason::Device),
        LineKind::Unreadable => Node::Skipped(SkipReason::Unreadable),
        LineKind::TooDeep => Node::Skipped(SkipReason::TooDeep),
    };
    let modified = FileTime { seconds: line.mtime.0, nanoseconds: line.mtime.1 };
    Ok(Entry { path, node, mode: line.mode & PERMISSION_BITS, modified, stamp: 0 })
}

/// Writes a line.
pub(in crate::sync) fn write_line(output: &mut impl Write, line: &Line<'_>) -> io::Result<()> {
    serde_json::to_writer(&mut *output, line)?;
    output.write_all(b"\n")
}

/// What comes next of the lines of a stream.
pub(in crate::sync) enum Next<'a> {
    Line(&'a [u8]),
    TooLong,
    /// The stream ended, in the middle of a line or between two.
    Cut,
}

/// Cuts a stream into lines of bounded length.
#[derive(Debug)]
pub(in crate::sync) struct Lines<R> {
    input: BufReader<R>,
    line: Vec<u8>,
}

impl<R: Read> Lines<R> {
    pub(in crate::sync) fn new(input: R) -> Self {
        Self { input: BufReader::with_capacity(CHUNK, input), line: Vec::new() }
    }

    pub(in crate::sync) fn next(&mut self) -> io::Result<Next<'_>> {
        self.line.clear();
        let length = (&mut self.input).take(MAX_LINE).read_until(b'\n', &mut self.line)?;
        Ok(match (self.line.last(), u64::try_from(length)) {
            (Some(b'\n'), _) => Next::Line(&self.line),
            (_, Ok(MAX_LINE)) => Next::TooLong,
            _ => Next::Cut,
        })
    }
}
