//! The lines of a `.gitignore` (gitignore(5)).

use super::wildmatch::matches;
use crate::files::metadata::Kind;

/// Most patterns of a file; those behind are passed over.
const MAX_PATTERNS: usize = 1000;

/// The patterns of a file.
#[derive(Debug, Default)]
pub struct Patterns(Vec<Pattern>);

#[derive(Debug, PartialEq, Eq)]
struct Pattern {
    glob: Vec<u8>,
    /// Bytes in front that mean themselves.
    literal: usize,
    excludes: bool,
    directories_only: bool,
    /// Whether it is compared with the path from the directory of the file, not with the name alone.
    anchored: bool,
}

impl Patterns {
    /// Reads a file.
    pub fn parse(text: &[u8]) -> Self {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let lines = text.split(|byte| *byte == b'\n');
        Self(lines.filter_map(Pattern::parse).take(MAX_PATTERNS).collect())
    }

    /// Whether the last pattern that matches leaves the entry out or takes it back; nothing if none
    /// matches. The path is that from the directory of the file.
    pub fn decide(&self, path: &[u8], kind: Kind) -> Option<bool> {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let found = self.0.iter().rev().find(|pattern| pattern.matches(path, name, kind));
        found.map(|pattern| pattern.excludes)
    }

    /// About the memory that they take.
    pub(super) fn weight(&self) -> usize {
        self.0.iter().map(|pattern| pattern.glob.len() + size_of::<Pattern>()).sum()
    }
}

impl Pattern {
    fn parse(line: &[u8]) -> Option<Self> {
        let line = without_trailing_spaces(line.strip_suffix(b"\r").unwrap_or(line));
        if line.first() == Some(&b'#') {
            return None;
        }
        let (excludes, line) = match line.strip_prefix(b"!") {
            Some(line) => (false, line),
            None => (true, line),
        };
        let (directories_only, line) = match line.strip_suffix(b"/") {
            Some(line) => (true, line),
            None => (false, line),
        };
        let anchored = line.contains(&b'/');
        let glob = line.strip_prefix(b"/").unwrap_or(line).to_vec();
        if line.is_empty() {
            return None;
        }
        let special = |byte: &u8| matches!(byte, b'*' | b'?' | b'[' | b'\\');
        let literal = glob.iter().position(special).unwrap_or(glob.len());
        Some(Self { glob, literal, excludes, directories_only, anchored })
    }

    fn matches(&self, path: &[u8], name: &[u8], kind: Kind) -> bool {
        if self.directories_only && kind != Kind::Directory {
            return false;
        }
        let text = if self.anchored { path } else { name };
        // Git compares what means itself first, and takes what is left for a pattern of its own.
        match (self.glob.split_at_checked(self.literal), text.split_at_checked(self.literal)) {
            (Some((literal, glob)), Some((start, rest))) => literal == start && matches(glob, rest),
            _ => false,
        }
    }
}

/// Spaces at the end mean nothing, unless a backslash is before them.
fn without_trailing_spaces(line: &[u8]) -> &[u8] {
    let mut end = 0;
    let mut bytes = line.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b' ' => {}
            b'\\' => {
                let escaped = usize::from(bytes.next().is_some());
                end = at + 1 + escaped;
            }
            _ => end = at + 1,
        }
    }
    line.get(..end).unwrap_or(line)
}
