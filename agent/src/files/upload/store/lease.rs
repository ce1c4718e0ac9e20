//! Who holds an upload, and what it has come to, while a part of it is taken.

use std::sync::Arc;

use sha2::Sha256;

use super::{
    super::{
        super::{metadata::FileTime, root::Root, write::Written},
        error::UploadError,
        record::{Record, UploadId},
        shelf,
    },
    Ended, REMEMBERED, Slot, Uploads,
};

/// The right to send to one upload.
#[derive(Debug)]
pub struct Lease {
    pub(super) uploads: Arc<Uploads>,
    /// The upload.
    pub id: UploadId,
    /// What was asked for.
    pub record: Arc<Record>,
    /// Bytes of content.
    pub size: u64,
    /// Of these bytes, where all of them came through this agent.
    pub hash: Option<Sha256>,
}

impl Lease {
    /// The workspace.
    pub fn root(&self) -> &Root {
        &self.uploads.root
    }

    /// Takes the size that the file really has for the upload's.
    pub fn found(&mut self, size: u64) {
        if size != self.size {
            (self.size, self.hash) = (size, None);
            self.note();
        }
    }

    /// Notes bytes that are to be written, if there is room for them.
    ///
    /// # Errors
    /// When there is none.
    pub fn grow(&mut self, bytes: u64) -> Result<(), UploadError> {
        let size = self.size.saturating_add(bytes);
        let mut table = self.uploads.table();
        let claimed = table.open.get(&self.id).map_or(0, Slot::claim);
        self.uploads.make_room(&table, size.saturating_sub(claimed))?;
        if let Some(slot) = table.open.get_mut(&self.id) {
            slot.size = size;
        }
        drop(table);
        self.size = size;
        Ok(())
    }

    /// Takes the upload out of the table for good; whatever is left of its files goes.
    pub fn end(self, written: Option<Written>) {
        let mut table = self.uploads.table();
        table.open.remove(&self.id);
        if let Some(written) = written {
            let ended = Ended { record: Arc::clone(&self.record), written };
            table.ended.push_back((self.id, Arc::new(ended)));
            if table.ended.len() > REMEMBERED {
                table.ended.pop_front();
            }
        }
        drop(table);
        shelf::remove(&self.uploads.root, self.id);
    }

    fn note(&self) {
        if let Some(slot) = self.uploads.table().open.get_mut(&self.id) {
            slot.size = self.size;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(slot) = self.uploads.table().open.get_mut(&self.id) {
            slot.size = self.size;
            slot.hash = self.hash.take();
            slot.touched = FileTime::now();
            slot.busy = false;
        }
    }
}
