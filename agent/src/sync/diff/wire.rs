//! A list of changes on the wire: the lines of a manifest, each with what is to be done, and an end
//! line that counts them.

use std::io::{self, Read, Write};

use super::Change;
use crate::sync::manifest::{
    Entry,
    line::{ChangeWord, Line, LineError, Lines, Next, entry_of, line_of, write_line},
    wire::ManifestError,
};

/// Writes changes line by line.
#[derive(Debug)]
pub struct ChangeWriter<W> {
    output: W,
    changes: u64,
}

impl<W: Write> ChangeWriter<W> {
    /// Starts a list.
    pub fn new(output: W) -> Self {
        Self { output, changes: 0 }
    }

    /// Writes a change.
    ///
    /// # Errors
    /// What the output says.
    pub fn append(&mut self, change: &Change) -> io::Result<()> {
        self.changes += 1;
        write_line(&mut self.output, &line_of_change(change))
    }

    /// The number of changes so far.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Writes the end line, with the number of entries that the target has.
    ///
    /// # Errors
    /// What the output says.
    pub fn finish(mut self, target_entries: u64) -> io::Result<W> {
        let changes = self.changes;
        writeln!(self.output, "{{\"entries\":{changes},\"target_entries\":{target_entries}}}")?;
        Ok(self.output)
    }
}

fn line_of_change(change: &Change) -> Line<'_> {
    let mut line = line_of(change.entry());
    line.change = Some(match change {
        Change::Create(_) => ChangeWord::Create,
        Change::Update(_) => ChangeWord::Update,
        Change::Touch(_) => ChangeWord::Touch,
        Change::Remove(_) => ChangeWord::Remove,
        Change::Skip(_) => ChangeWord::Skip,
    });
    line
}

/// A change as a line by itself.
///
/// # Errors
/// None that memory does not have.
pub fn change_line(change: &Change) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write_line(&mut bytes, &line_of_change(change))?;
    Ok(bytes)
}

/// A list of changes, whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// What is to be done, in the order of manifests.
    pub changes: Vec<Change>,
    /// Entries that the target has now.
    pub target_entries: u64,
}

/// Reads a list to its end.
///
/// # Errors
/// When a line is no change, or the list is cut.
pub fn read_plan(input: impl Read) -> Result<Plan, ManifestError> {
    let mut lines = Lines::new(input);
    let mut plan = Plan::default();
    loop {
        let count = u64::try_from(plan.changes.len()).unwrap_or(u64::MAX);
        let parsed = match lines.next()? {
            Next::Line(line) => parse_line(line, count),
            Next::TooLong => Err(LineError::TooLong),
            Next::Cut => return Err(ManifestError::Cut(count)),
        };
        match parsed.map_err(|source| ManifestError::Line { line: count + 1, source })? {
            Parsed::Change(change) => plan.changes.push(change),
            Parsed::End(target_entries) => return Ok(Plan { target_entries, ..plan }),
        }
    }
}

enum Parsed {
    Change(Change),
    End(u64),
}

fn parse_line(line: &[u8], before: u64) -> Result<Parsed, LineError> {
    let line: Line<'_> = serde_json::from_slice(line)?;
    match (line.entries, line.target_entries) {
        (None, _) => {}
        (Some(count), Some(target)) if count == before => return Ok(Parsed::End(target)),
        (Some(count), _) => return Err(LineError::Count(count)),
    }
    let make: fn(Entry) -> Change = match line.change.ok_or(LineError::Lacks("change"))? {
        ChangeWord::Create => Change::Create,
        ChangeWord::Update => Change::Update,
        ChangeWord::Touch => Change::Touch,
        ChangeWord::Remove => Change::Remove,
        ChangeWord::Skip => Change::Skip,
    };
    entry_of(line).map(make).map(Parsed::Change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        files::{WorkspacePath, metadata::FileTime},
        sync::manifest::Node,
    };

    #[test]
    fn a_list_is_read_back_and_a_cut_one_refused() {
        let modified = FileTime { seconds: 1, nanoseconds: 2 };
        let path = WorkspacePath::parse(b"a\xff").unwrap();
        let entry = Entry { path, node: Node::Directory, mode: 0o755, modified, stamp: 0 };
        let changes = vec![Change::Touch(entry.clone()), Change::Remove(entry)];
        let mut writer = ChangeWriter::new(Vec::new());
        for change in &changes {
            writer.append(change).unwrap();
        }
        let bytes = writer.finish(7).unwrap();
        assert_eq!(read_plan(bytes.as_slice()).unwrap(), Plan { changes, target_entries: 7 });
        for cut in 0..bytes.len() {
            read_plan(&bytes[..cut]).unwrap_err();
        }
        let odd = b"{\"path\":\"a\",\"kind\":\"file\"}\n".as_slice();
        assert!(read_plan(odd).unwrap_err().to_string().contains("lacks 'change'"));
    }
}
