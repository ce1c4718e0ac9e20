//! Notes of the sender, and what of an archive is wanted at all.

use std::collections::HashMap;

use super::{Purpose, UnpackError, Unpacker, accept_path};
use crate::{
    files::{Name, WorkspacePath, directory::Directory, metadata::Kind},
    sync::{
        archive::{ArchiveFault, ReadError},
        exclude::Exclusions,
        manifest::Entry,
    },
};

/// What is taken of an archive, and what has to be there when it is: what is not as it was when that
/// was decided stays.
pub type Wanted = HashMap<WorkspacePath, Option<Entry>>;

/// What is taken of an archive; everything by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Selected<'s> {
    /// Only this, where something is.
    pub wanted: Option<&'s Wanted>,
    /// What a sender was told to leave out that is not trusted to have done it: it is neither written
    /// nor removed, it is a refusal.
    pub exclusions: Option<&'s Exclusions>,
}

impl Unpacker<'_> {
    pub(super) fn note_removal(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        if self.unpacking.purpose == Purpose::Archive {
            return Err(ReadError::refused(path, ArchiveFault::Removal).into());
        }
        if self.unpacking.removes() {
            let path = self.accept_note(path, self.done.removals.len())?;
            // Of what kind it was is not said. A directory goes only when nothing is left in it.
            self.refuse_excluded(&path, Kind::File)?;
            if self.wants(&path) {
                self.done.removals.push(path);
            }
        }
        Ok(())
    }

    pub(super) fn note_deferred(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        if self.unpacking.purpose == Purpose::Archive {
            return Err(ReadError::refused(path, ArchiveFault::Deferred).into());
        }
        let path = self.accept_note(path, self.done.deferred.len())?;
        self.refuse_excluded(&path, Kind::File)?;
        if self.wants(&path) {
            self.done.deferred.push(path);
        }
        Ok(())
    }

    pub(super) fn refuse_excluded(
        &self,
        path: &WorkspacePath,
        kind: Kind,
    ) -> Result<(), ReadError> {
        match self.selected.exclusions {
            Some(exclusions) if exclusions.leaves_out(path, kind) => {
                Err(ReadError::refused(path.as_bytes(), ArchiveFault::Excluded))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn wants(&self, path: &WorkspacePath) -> bool {
        self.selected.wanted.is_none_or(|wanted| wanted.contains_key(path))
    }

    /// Whether what has the name is what it was when the entry was wanted; notes it if it is not.
    pub(super) fn is_as_expected(
        &mut self,
        path: &WorkspacePath,
        parent: &Directory,
        name: Name<'_>,
    ) -> bool {
        let Some(expected) = self.selected.wanted.and_then(|wanted| wanted.get(path)) else {
            return true;
        };
        let there = parent.stat(name).ok();
        let fits = match (expected, &there) {
            (None, there) => there.is_none(),
            (Some(expected), Some(there)) => expected.looks_like(there),
            (Some(_), None) => false,
        };
        if !fits {
            self.done.report.add_raced(path.as_bytes());
        }
        fits
    }

    fn accept_note(&self, path: &[u8], before: usize) -> Result<WorkspacePath, UnpackError> {
        let (path, limit) = (accept_path(path)?, self.unpacking.limits.max_entries);
        match u64::try_from(before) {
            Ok(before) if before < limit => Ok(path),
            _ => Err(UnpackError::TooManyEntries(limit, path)),
        }
    }
}
