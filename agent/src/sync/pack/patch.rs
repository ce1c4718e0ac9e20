//! Files that the receiver has in another form: kept back, or sent as a delta.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use super::{PackError, Packer};
use crate::{
    files::{WorkspacePath, transfer::TakeFile},
    sync::{
        archive::{Member, MemberKind},
        delta::{Delta, WORTH_ASKING},
        manifest::{Entry, Node},
    },
};

/// How files are sent that the receiver has in another form.
#[derive(Debug, Clone, Copy)]
pub enum Updates<'u> {
    /// Whole.
    Whole,
    /// Large ones not at all: the receiver asks for them by a call of its own.
    Deferred,
    /// As a delta, where there is one.
    Deltas(&'u HashMap<WorkspacePath, Delta>),
}

impl Updates<'_> {
    /// Whether an entry that is to be updated is kept back.
    pub(super) fn defers(self, entry: &Entry) -> bool {
        let large = matches!(entry.node, Node::File { size, .. } if size >= WORTH_ASKING);
        large && matches!(self, Self::Deferred)
    }
}

impl<W: TakeFile> Packer<'_, W> {
    pub(super) fn defer(&mut self, entry: &Entry) -> Result<(), PackError> {
        self.archive.append_deferred(entry.path.as_bytes()).map_err(PackError::Output)
    }

    /// Sends a file as the delta that there is for it, unless it has been changed since: says whether
    /// it did.
    pub(super) fn append_delta(&mut self, path: &WorkspacePath) -> Result<bool, PackError> {
        let Updates::Deltas(deltas) = self.updates else { return Ok(false) };
        let Some(delta) = deltas.get(path) else { return Ok(false) };
        let (mut file, metadata) = self.open(path)?;
        if !delta.source.is_of(&metadata) {
            return Ok(false);
        }
        let (size, encoded) = (delta.source.size, delta.encoded());
        let kind = MemberKind::Delta { size, encoded };
        let (mode, modified) = (metadata.mode, delta.source.modified);
        let member = Member { path: path.as_bytes().to_vec(), kind, mode, modified };
        self.archive.append(&member).map_err(PackError::Output)?;
        self.append_steps(delta, &mut file).map_err(PackError::Output)?;
        self.archive.pad(encoded).map_err(PackError::Output)?;
        self.report.files += 1;
        self.report.bytes += size - delta.spared();
        self.report.spared += delta.spared();
        Ok(true)
    }

    fn append_steps(&mut self, delta: &Delta, file: &mut File) -> io::Result<()> {
        let (mut offset, mut head, mut content) = (0, Vec::new(), Vec::new());
        for step in &delta.steps {
            head.clear();
            step.write(&mut head);
            self.archive.write_content(&head)?;
            if step.from.is_none() {
                read_at(file, offset, step.chunk.length, &mut content)?;
                self.archive.write_content(&content)?;
            }
            offset += u64::from(step.chunk.length);
        }
        Ok(())
    }
}

/// Reads so many bytes. What is not there any more is zeros: the receiver sees that they are not the
/// chunk.
fn read_at(file: &mut File, offset: u64, length: u32, content: &mut Vec<u8>) -> io::Result<()> {
    content.clear();
    file.seek(SeekFrom::Start(offset))?;
    file.take(length.into()).read_to_end(content)?;
    content.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
    Ok(())
}
