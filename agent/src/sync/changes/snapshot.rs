//! A tree as it was at some moment, as small as it can be kept: names, kinds, and stamps.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    files::{WorkspacePath, metadata::FileTime},
    sync::{
        archive::SkipReason,
        manifest::{Entry, Node},
    },
};

/// One entry.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Where its name ends among all names.
    end: usize,
    stamp: u64,
    is: Is,
}

#[derive(Debug, Clone, Copy)]
enum Is {
    File,
    Directory,
    Symlink,
    Skipped(SkipReason),
}

/// The state of a tree.
#[derive(Debug, Default)]
pub struct Snapshot {
    names: Vec<u8>,
    marks: Vec<Mark>,
}

impl Snapshot {
    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.names.capacity() + self.marks.capacity() * size_of::<Mark>()
    }

    /// Adds the entry that comes next.
    pub fn push(&mut self, entry: &Entry) {
        self.names.extend_from_slice(entry.path.as_bytes());
        let is = match &entry.node {
            Node::File { .. } => Is::File,
            Node::Directory => Is::Directory,
            Node::Symlink(_) => Is::Symlink,
            Node::Skipped(reason) => Is::Skipped(*reason),
        };
        self.marks.push(Mark { end: self.names.len(), stamp: entry.stamp, is });
    }

    /// The entries in their order; of each the path, the kind and the stamp are known.
    pub fn into_entries(self: Arc<Self>) -> SnapshotEntries {
        SnapshotEntries { snapshot: self, at: 0, start: 0 }
    }

    /// The directories among them, with their stamps.
    pub fn directories(self: &Arc<Self>) -> impl Iterator<Item = (WorkspacePath, u64)> + use<> {
        let entries = Arc::clone(self).into_entries().filter_map(Result::ok);
        let directories = entries.filter(|entry| entry.node == Node::Directory);
        directories.map(|entry| (entry.path, entry.stamp))
    }
}

/// The entries of a snapshot.
#[derive(Debug)]
pub struct SnapshotEntries {
    snapshot: Arc<Snapshot>,
    at: usize,
    start: usize,
}

impl Iterator for SnapshotEntries {
    type Item = Result<Entry, crate::files::FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mark = self.snapshot.marks.get(self.at)?;
        let name = self.snapshot.names.get(self.start..mark.end)?;
        // It was one when it was put in.
        let path = WorkspacePath::parse(name).ok()?;
        (self.at, self.start) = (self.at + 1, mark.end);
        let node = match mark.is {
            Is::File => Node::File { size: 0, hash: None },
            Is::Directory => Node::Directory,
            Is::Symlink => Node::Symlink(Vec::new()),
            Is::Skipped(reason) => Node::Skipped(reason),
        };
        let modified = FileTime { seconds: 0, nanoseconds: 0 };
        Some(Ok(Entry { path, node, mode: 0, modified, stamp: mark.stamp }))
    }
}

/// Makes a snapshot of the entries that go by.
#[derive(Debug, Clone, Default)]
pub struct Recorder(Arc<Mutex<Snapshot>>);

impl Recorder {
    /// The same entries, which are recorded as they are taken.
    pub fn record<I>(&self, entries: I) -> Recording<I> {
        Recording { entries, recorder: self.clone() }
    }

    /// The snapshot, when all have gone by.
    pub fn finish(self) -> Snapshot {
        let mut snapshot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut snapshot = std::mem::take(&mut *snapshot);
        snapshot.names.shrink_to_fit();
        snapshot.marks.shrink_to_fit();
        snapshot
    }
}

/// Entries that are recorded as they are taken.
#[derive(Debug)]
pub struct Recording<I> {
    entries: I,
    recorder: Recorder,
}

impl<E, I: Iterator<Item = Result<Entry, E>>> Iterator for Recording<I> {
    type Item = Result<Entry, E>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.entries.next()?;
        if let Ok(entry) = &next {
            self.recorder.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        }
        Some(next)
    }
}
