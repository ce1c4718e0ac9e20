//! Two trees that were the same once, each compared with what it was: who has changed what.
//!
//! Pure. What only the source has changed is for the target to take; what only the target has
//! changed stays; what both have changed differently is a conflict, and touched by nobody unless the
//! user says who wins. Where it is not known what is there, nothing is done.

pub mod walk;

use serde::Serialize;

use super::{
    diff::Change,
    manifest::{Entry, Node},
};

/// What one side has done with an entry since both were the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Did {
    /// There was none.
    Created,
    /// Content, target or mode are others.
    Modified,
    /// It is something of another kind.
    Replaced,
    /// It is gone.
    Deleted,
}

/// What follows of an entry's three states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Both sides have the same, or nothing.
    Agreed,
    /// Only the source has changed it: the target is to take it.
    Take,
    /// Only the target has changed it: it stays.
    Leave,
    /// Both have, differently.
    Conflict {
        /// What the source did.
        source: Did,
        /// What the target did.
        target: Did,
    },
    /// One side cannot be read, or is not transferred.
    Unknown,
}

/// An entry as it was when both sides were the same, and as it is on each of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct States {
    /// When both were the same.
    pub base: Option<Entry>,
    /// Where changes come from.
    pub source: Option<Entry>,
    /// Where they go.
    pub target: Option<Entry>,
}

impl States {
    /// Decides about an entry.
    pub fn decide(&self) -> Verdict {
        let (source, target) = (self.source.as_ref(), self.target.as_ref());
        if [source, target].into_iter().flatten().any(is_unknown) {
            return Verdict::Unknown;
        }
        if same(source, target) {
            return Verdict::Agreed;
        }
        let base = self.base.as_ref();
        match (did(base, source), did(base, target)) {
            (Some(_), None) => Verdict::Take,
            (None, Some(_)) => Verdict::Leave,
            (Some(source), Some(target)) => Verdict::Conflict { source, target },
            // Each looks like the base, by its time, and their hashes differ.
            (None, None) => Verdict::Conflict { source: Did::Modified, target: Did::Modified },
        }
    }

    /// Whether both sides have a directory here, so that what is in it can be looked at by itself.
    fn both_are_directories(&self) -> bool {
        let is_directory = |entry: &Option<Entry>| {
            entry.as_ref().is_some_and(|entry| entry.node == Node::Directory)
        };
        is_directory(&self.source) && is_directory(&self.target)
    }

    /// What has to be done to the target for it to be as the source.
    pub fn change(&self) -> Option<Change> {
        Some(match (&self.source, &self.target) {
            (None, None) => return None,
            (None, Some(target)) => Change::Remove(target.clone()),
            (Some(source), None) => Change::Create(source.clone()),
            (Some(source), Some(target)) => match (&source.node, &target.node) {
                (Node::Directory, Node::Directory) => Change::Touch(source.clone()),
                (Node::File { .. }, Node::File { .. }) if same_content(source, target) => {
                    Change::Touch(source.clone())
                }
                (Node::File { .. }, Node::File { .. }) | (Node::Symlink(_), Node::Symlink(_)) => {
                    Change::Update(source.clone())
                }
                _ => Change::Create(source.clone()),
            },
        })
    }
}

fn is_unknown(entry: &Entry) -> bool {
    matches!(entry.node, Node::Skipped(_))
}

/// What became of an entry; nothing if it is as it was.
fn did(base: Option<&Entry>, now: Option<&Entry>) -> Option<Did> {
    match (base, now) {
        _ if same(base, now) => None,
        (None, _) => Some(Did::Created),
        (_, None) => Some(Did::Deleted),
        (Some(base), Some(now)) if same_kind(base, now) => Some(Did::Modified),
        (Some(_), Some(_)) => Some(Did::Replaced),
    }
}

fn same_kind(left: &Entry, right: &Entry) -> bool {
    std::mem::discriminant(&left.node) == std::mem::discriminant(&right.node)
}

/// Whether two states of an entry are the same. The time of a directory tells of what is in it, and
/// that is compared by itself.
fn same(left: Option<&Entry>, right: Option<&Entry>) -> bool {
    match (left, right) {
        (None, None) => true,
        (Some(left), Some(right)) => match (&left.node, &right.node) {
            (Node::Directory, Node::Directory) => left.mode == right.mode,
            (Node::Symlink(left), Node::Symlink(right)) => left == right,
            (Node::File { .. }, Node::File { .. }) => {
                left.mode == right.mode && same_content(left, right)
            }
            _ => false,
        },
        _ => false,
    }
}

/// Whether two files have the same content: by their hashes where both are known, otherwise by size
/// and time.
fn same_content(left: &Entry, right: &Entry) -> bool {
    match (&left.node, &right.node) {
        (Node::File { hash: Some(left), .. }, Node::File { hash: Some(right), .. }) => {
            left == right
        }
        (Node::File { size: left_size, .. }, Node::File { size: right_size, .. }) => {
            left_size == right_size && left.modified == right.modified
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
