//! Two manifests compared: what has to be done to the target for it to be as the source.
//!
//! Pure, and streaming: both sides are read once, in their common order. What the source could not
//! read is unknown and never taken for removed.

pub mod wire;

use std::{cmp::Ordering, fmt, iter::Peekable, marker::PhantomData};

use super::manifest::{Entry, Node, order};
use crate::files::WorkspacePath;

/// When two files of the same kind count as the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Criterion {
    /// When size and time of the last change are.
    SizeAndTime,
    /// When the hashes of their contents are; both manifests have to have them.
    Content,
    /// When their stamps are: one tree at two moments. The target need say no more than kinds.
    Stamp,
    /// The same, but what has no stamp in the target counts as the same.
    KnownStamp,
}

/// One thing to be done to the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The target has nothing of this name, or something of another kind.
    Create(Entry),
    /// The content of a file, or the target of a link, is another.
    Update(Entry),
    /// The content is the same; mode or time are not.
    Touch(Entry),
    /// The source has nothing of this name; this is the target's entry.
    Remove(Entry),
    /// The source has something here that is not transferred.
    Skip(Entry),
}

impl Change {
    /// The entry that it is about.
    pub fn entry(&self) -> &Entry {
        match self {
            Self::Create(entry)
            | Self::Update(entry)
            | Self::Touch(entry)
            | Self::Remove(entry)
            | Self::Skip(entry) => entry,
        }
    }
}

/// What one step has found.
enum Step {
    Change(Change),
    Same,
    End,
}

/// A comparison under way. Directories come before what is in them, removed ones too.
pub struct Diff<S: Iterator, T: Iterator> {
    source: Peekable<S>,
    target: Peekable<T>,
    criterion: Criterion,
    /// What the source could not read or cannot transfer: nothing beneath it is removed.
    unknown: Option<WorkspacePath>,
    /// Entries of the target so far.
    target_entries: u64,
}

impl<S, T, SE, TE> Diff<S, T>
where
    S: Iterator<Item = Result<Entry, SE>>,
    T: Iterator<Item = Result<Entry, TE>>,
{
    fn step<E: From<SE> + From<TE>>(&mut self) -> Result<Step, E> {
        let ordering = match (self.source.peek(), self.target.peek()) {
            (None, None) => return Ok(Step::End),
            (Some(Err(_)), _) | (Some(_), None) => Ordering::Less,
            (_, Some(Err(_))) | (None, Some(_)) => Ordering::Greater,
            (Some(Ok(source)), Some(Ok(target))) => order(&source.path, &target.path),
        };
        match ordering {
            Ordering::Less => {
                let Some(source) = self.source.next().transpose()? else { return Ok(Step::End) };
                Ok(Step::Change(self.appeared(source)))
            }
            Ordering::Greater => {
                let Some(target) = self.target.next().transpose()? else { return Ok(Step::End) };
                Ok(self.vanished(target))
            }
            Ordering::Equal => {
                let (source, target) = (self.source.next(), self.target.next());
                let (Some(source), Some(target)) = (source.transpose()?, target.transpose()?)
                else {
                    return Ok(Step::End);
                };
                Ok(self.both(source, &target))
            }
        }
    }
}

impl<S: Iterator, T: Iterator> Diff<S, T> {
    /// Starts to compare.
    pub fn new(source: S, target: T, criterion: Criterion) -> Self {
        Self {
            source: source.peekable(),
            target: target.peekable(),
            criterion,
            unknown: None,
            target_entries: 0,
        }
    }

    fn appeared(&mut self, source: Entry) -> Change {
        match source.node {
            Node::Skipped(_) => {
                self.unknown = Some(source.path.clone());
                Change::Skip(source)
            }
            Node::File { .. } | Node::Directory | Node::Symlink(_) => Change::Create(source),
        }
    }

    fn vanished(&mut self, target: Entry) -> Step {
        self.target_entries += 1;
        let unknown = self.unknown.as_ref().is_some_and(|top| target.path.starts_with(top));
        match target.node {
            _ if unknown => Step::Same,
            // A socket or FIFO of the target is nothing that a sync made, nor anything it removes.
            Node::Skipped(_) => Step::Same,
            Node::File { .. } | Node::Directory | Node::Symlink(_) => {
                Step::Change(Change::Remove(target))
            }
        }
    }

    fn both(&mut self, source: Entry, target: &Entry) -> Step {
        self.target_entries += 1;
        let by_stamp = matches!(self.criterion, Criterion::Stamp | Criterion::KnownStamp);
        let unknown = target.stamp == 0;
        // None is known of what changed while it was looked at.
        let same_stamp = match self.criterion {
            Criterion::KnownStamp if unknown => true,
            _ => source.stamp == target.stamp && !unknown,
        };
        let same_content = match (&source.node, &target.node) {
            (Node::Skipped(_), _) => return Step::Change(self.appeared(source)),
            (Node::Directory, Node::Directory) => true,
            (Node::Symlink(_), Node::Symlink(_)) if by_stamp => same_stamp,
            (Node::Symlink(left), Node::Symlink(right)) => left == right,
            (
                Node::File { size: left, hash: left_hash },
                Node::File { size: right, hash: right_hash },
            ) => match self.criterion {
                Criterion::SizeAndTime => left == right && source.modified == target.modified,
                Criterion::Content => left_hash.is_some() && left_hash == right_hash,
                Criterion::Stamp | Criterion::KnownStamp => same_stamp,
            },
            _ => return Step::Change(Change::Create(source)),
        };
        // The mode of a link means nothing.
        let is_link = matches!(source.node, Node::Symlink(_));
        let same_mode = is_link || source.mode == target.mode;
        let same_attributes = match by_stamp {
            true => same_stamp,
            false => same_mode && source.modified == target.modified,
        };
        match (same_content, same_attributes) {
            (true, true) => Step::Same,
            (true, false) => Step::Change(Change::Touch(source)),
            (false, _) => Step::Change(Change::Update(source)),
        }
    }
}

/// A comparison as an iterator whose errors are of type `E`; after an error there is no more.
pub struct Changes<S: Iterator, T: Iterator, E> {
    diff: Diff<S, T>,
    failed: bool,
    error: PhantomData<fn() -> E>,
}

/// The changes of a comparison.
pub fn changes<S: Iterator, T: Iterator, E>(diff: Diff<S, T>) -> Changes<S, T, E> {
    Changes { diff, failed: false, error: PhantomData }
}

impl<S: Iterator, T: Iterator> fmt::Debug for Diff<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Diff").field("criterion", &self.criterion).finish_non_exhaustive()
    }
}

impl<S: Iterator, T: Iterator, E> fmt::Debug for Changes<S, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.diff.fmt(f)
    }
}

impl<S: Iterator, T: Iterator, E> Changes<S, T, E> {
    /// Entries of the target that were compared so far.
    pub fn target_entries(&self) -> u64 {
        self.diff.target_entries
    }
}

impl<S, T, SE, TE, E> Iterator for Changes<S, T, E>
where
    S: Iterator<Item = Result<Entry, SE>>,
    T: Iterator<Item = Result<Entry, TE>>,
    E: From<SE> + From<TE>,
{
    type Item = Result<Change, E>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            match self.diff.step() {
                Ok(Step::Change(change)) => return Some(Ok(change)),
                Ok(Step::Same) => {}
                Ok(Step::End) => return None,
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
