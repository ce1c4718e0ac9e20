//! The unfinished uploads of a workspace: which there are, who sends to which, and how much they may
//! take. Their content and records lie in one hidden directory of the root and outlive the agent;
//! what is only known here is which one is being sent to, and the hash so far.

mod lease;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::{
    super::{metadata::FileTime, root::Root, write::Written},
    error::UploadError,
    record::{Record, UploadId},
    shelf,
};

pub use lease::Lease;

/// Ends that are remembered for senders who did not get the answer.
const REMEMBERED: usize = 64;

/// How much unfinished uploads may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many there may be.
    pub count: usize,
    /// Bytes of all of them together: what they have, or what was announced if that is more.
    pub bytes: u64,
    /// How long one is kept that nobody sends to.
    pub keep: Duration,
}

/// The uploads of one workspace.
#[derive(Debug)]
pub struct Uploads {
    root: Arc<Root>,
    limits: Limits,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    open: HashMap<UploadId, Slot>,
    ended: VecDeque<(UploadId, Arc<Ended>)>,
}

/// An upload whose content is in its place.
#[derive(Debug)]
pub struct Ended {
    /// What was asked for.
    pub record: Arc<Record>,
    /// What came of it.
    pub written: Written,
}

#[derive(Debug)]
struct Slot {
    record: Arc<Record>,
    size: u64,
    /// Of the content so far; none where an earlier agent took some of it.
    hash: Option<Sha256>,
    /// When somebody last sent.
    touched: FileTime,
    busy: bool,
}

impl Slot {
    fn claim(&self) -> u64 {
        self.size.max(self.record.length.unwrap_or(0))
    }
}

/// An unfinished upload, as it is shown.
#[derive(Debug)]
pub struct Shown {
    /// Its name.
    pub id: UploadId,
    /// What was asked for.
    pub record: Arc<Record>,
    /// Bytes of content.
    pub offset: u64,
    /// Whether somebody is sending.
    pub busy: bool,
    /// When it is forgotten if nobody sends.
    pub expires: FileTime,
}

impl Uploads {
    /// Takes up what an earlier agent has left in this root.
    pub fn open(root: Arc<Root>, limits: Limits) -> Self {
        let found = shelf::load(&root, limits.count);
        let open = found.into_iter().map(|found| {
            let (record, size, touched) = (Arc::new(found.record), found.size, found.touched);
            (found.id, Slot { record, size, hash: None, touched, busy: false })
        });
        let table = Mutex::new(Table { open: open.collect(), ended: VecDeque::new() });
        Self { root, limits, table }
    }

    /// The workspace.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Begins one. Blocks.
    ///
    /// # Errors
    /// When there are too many, or its files cannot be made.
    pub fn create(&self, record: Record) -> Result<UploadId, UploadError> {
        self.expire(FileTime::now());
        let (id, record) = (UploadId::fresh(), Arc::new(record));
        let slot = Slot {
            record: Arc::clone(&record),
            size: 0,
            hash: Some(Sha256::new()),
            touched: FileTime::now(),
            busy: false,
        };
        {
            let mut table = self.table();
            if table.open.len() >= self.limits.count {
                return Err(UploadError::TooMany(self.limits.count));
            }
            self.make_room(&table, slot.claim())?;
            table.open.insert(id, slot);
        }
        shelf::create(&self.root, id, &record).inspect_err(|_error| {
            self.table().open.remove(&id);
        })?;
        Ok(id)
    }

    /// Takes one to send to, until the lease is dropped.
    ///
    /// # Errors
    /// When there is no such one, or somebody else is sending.
    pub fn lease(self: &Arc<Self>, id: UploadId) -> Result<Lease, UploadError> {
        let mut table = self.table();
        let slot = table.open.get_mut(&id).ok_or_else(|| UploadError::Unknown(id.to_string()))?;
        if slot.busy {
            return Err(UploadError::Busy(id));
        }
        slot.busy = true;
        let (record, size, hash) = (Arc::clone(&slot.record), slot.size, slot.hash.take());
        drop(table);
        Ok(Lease { uploads: Arc::clone(self), id, record, size, hash })
    }

    /// One that has come to its end lately.
    pub fn ended(&self, id: UploadId) -> Option<Arc<Ended>> {
        let table = self.table();
        table.ended.iter().find(|(ended, _)| *ended == id).map(|(_, ended)| Arc::clone(ended))
    }

    /// All that are unfinished, by name.
    pub fn list(&self) -> Vec<Shown> {
        let keep = i64::try_from(self.limits.keep.as_secs()).unwrap_or(i64::MAX);
        let table = self.table();
        let shown = table.open.iter().map(|(id, slot)| Shown {
            id: *id,
            record: Arc::clone(&slot.record),
            offset: slot.size,
            busy: slot.busy,
            expires: FileTime {
                seconds: slot.touched.seconds.saturating_add(keep),
                ..slot.touched
            },
        });
        let mut shown: Vec<_> = shown.collect();
        shown.sort_by_key(|shown| shown.id.to_string());
        shown
    }

    /// Forgets those that nobody has sent to for too long. Blocks.
    pub fn expire(&self, now: FileTime) {
        let keep = i64::try_from(self.limits.keep.as_secs()).unwrap_or(i64::MAX);
        let mut table = self.table();
        let expired = table.open.extract_if(|_, slot| {
            !slot.busy && now.seconds.saturating_sub(slot.touched.seconds) > keep
        });
        let expired: Vec<_> = expired.map(|(id, _)| id).collect();
        drop(table);
        for id in expired {
            tracing::info!(upload.id = %id, "an upload that nobody went on with was removed");
            shelf::remove(&self.root, id);
        }
    }

    /// Whether so many more bytes may come.
    fn make_room(&self, table: &Table, more: u64) -> Result<(), UploadError> {
        let claims = table.open.values().map(Slot::claim);
        let total = claims.fold(more, u64::saturating_add);
        if total > self.limits.bytes {
            return Err(UploadError::NoSpace(self.limits.bytes));
        }
        Ok(())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Each change of it is one assignment or insertion.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
