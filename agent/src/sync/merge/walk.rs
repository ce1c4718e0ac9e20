//! Three manifests side by side.

use std::iter::Peekable;

use super::{Did, States, Verdict};
use crate::{
    files::WorkspacePath,
    sync::manifest::{Entry, order},
};

/// Who wins where both sides have changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Winner {
    /// Nobody: it is a conflict, and stays as it is on both sides.
    Nobody,
    /// The source: the target takes its state.
    Source,
    /// The target: it stays.
    Target,
}

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Who wins where both sides have changed something.
    pub winner: Winner,
    /// Whether the target loses what the source has removed.
    pub deletes: bool,
}

/// An entry, and what is to become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Where it is.
    pub path: WorkspacePath,
    /// Its states.
    pub states: States,
    /// What follows of them.
    pub verdict: Verdict,
    /// Whether the target is made like the source.
    pub taken: bool,
}

impl Merged {
    /// What both sides have when all is done: what is remembered for the next time.
    pub fn agreed(&self) -> Option<&Entry> {
        match self.taken || self.verdict == Verdict::Agreed {
            true => self.states.source.as_ref(),
            false => self.states.base.as_ref(),
        }
    }
}

/// Compares three manifests, each in their common order, and decides about every entry.
///
/// # Errors
/// The first of an input.
pub fn merge<E>(
    base: impl Iterator<Item = Result<Entry, E>>,
    source: impl Iterator<Item = Result<Entry, E>>,
    target: impl Iterator<Item = Result<Entry, E>>,
    policy: Policy,
) -> Result<Vec<Merged>, E> {
    let (mut base, mut source, mut target) =
        (base.peekable(), source.peekable(), target.peekable());
    let (mut merged, mut closed) = (Vec::new(), None);
    loop {
        let heads = [head(&mut base)?, head(&mut source)?, head(&mut target)?];
        let Some(path) = heads.into_iter().flatten().min_by(order) else { return Ok(merged) };
        let states = States {
            base: take_at(&mut base, &path)?,
            source: take_at(&mut source, &path)?,
            target: take_at(&mut target, &path)?,
        };
        merged.push(judge(path, states, policy, &mut closed));
    }
}

fn head<E>(
    entries: &mut Peekable<impl Iterator<Item = Result<Entry, E>>>,
) -> Result<Option<WorkspacePath>, E> {
    match entries.next_if(Result::is_err) {
        Some(Err(error)) => Err(error),
        _ => Ok(entries.peek().and_then(|entry| entry.as_ref().ok()).map(|e| e.path.clone())),
    }
}

fn take_at<E>(
    entries: &mut Peekable<impl Iterator<Item = Result<Entry, E>>>,
    path: &WorkspacePath,
) -> Result<Option<Entry>, E> {
    entries.next_if(|entry| entry.as_ref().is_ok_and(|entry| entry.path == *path)).transpose()
}

/// An entry that stays as it is on both sides, and that hides from at least one of them what is
/// beneath it.
struct Closed {
    path: WorkspacePath,
    verdict: Verdict,
}

fn judge(
    path: WorkspacePath,
    states: States,
    policy: Policy,
    closed: &mut Option<Closed>,
) -> Merged {
    if closed.as_ref().is_some_and(|closed| !path.starts_with(&closed.path)) {
        *closed = None;
    }
    let verdict = match closed {
        Some(closed) => beneath(closed.verdict, states.decide()),
        None => states.decide(),
    };
    let permitted = policy.deletes || states.source.is_some();
    let taken = closed.is_none()
        && permitted
        && match verdict {
            Verdict::Take => true,
            Verdict::Conflict { .. } => policy.winner == Winner::Source,
            Verdict::Agreed | Verdict::Leave | Verdict::Unknown => false,
        };
    let stays = !taken && verdict != Verdict::Agreed;
    if stays && closed.is_none() && !states.both_are_directories() {
        *closed = Some(Closed { path: path.clone(), verdict });
    }
    Merged { path, states, verdict, taken }
}

/// What follows for an entry beneath one that stays as it is.
fn beneath(above: Verdict, verdict: Verdict) -> Verdict {
    match (above, verdict) {
        (Verdict::Unknown, _) => Verdict::Unknown,
        // There is nowhere to put it.
        (_, Verdict::Take) => Verdict::Conflict { source: Did::Modified, target: Did::Replaced },
        (_, verdict) => verdict,
    }
}
