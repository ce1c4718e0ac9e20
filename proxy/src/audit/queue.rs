//! Lines between the requests that leave them and the thread that writes them: one text, to which each
//! is appended under a lock that is held for a copy of it, so that none is memory of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A text of more room than this is given back to the allocator once it is written.
const KEPT: usize = 256 * 1024;

/// The lines that wait.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Wakes the writing thread.
    arrived: Condvar,
    /// The last write has failed.
    failing: AtomicBool,
    places: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    taken: Taken,
    /// Room that was used before.
    spare: Vec<u8>,
    /// Lines that are waiting, being written, or have a right to come.
    places: usize,
    closed: bool,
}

/// What is written next.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Whole lines.
    pub(super) text: Vec<u8>,
    lines: usize,
    /// Who waits for it.
    flushes: Vec<SyncSender<()>>,
}

impl Taken {
    const fn is_empty(&self) -> bool {
        self.text.is_empty() && self.flushes.is_empty()
    }
}

/// The right to have one line written.
#[derive(Debug)]
pub struct Place {
    queue: Option<Arc<Queue>>,
}

impl Place {
    /// Puts the line there.
    pub(super) fn fill(mut self, line: &[u8]) {
        let Some(queue) = self.queue.take() else { return };
        let mut waiting = queue.lock();
        let first = waiting.taken.is_empty();
        waiting.taken.text.extend_from_slice(line);
        waiting.taken.text.push(b'\n');
        waiting.taken.lines += 1;
        drop(waiting);
        if first {
            queue.arrived.notify_one();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(queue) = &self.queue {
            queue.lock().places -= 1;
        }
    }
}

impl Queue {
    pub(super) fn new(places: usize) -> Self {
        let (waiting, arrived, failing) = Default::default();
        Self { waiting, arrived, failing, places }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, where one is free.
    pub(super) fn place(queue: &Arc<Self>) -> Option<Place> {
        let mut waiting = queue.lock();
        if waiting.places == queue.places {
            return None;
        }
        waiting.places += 1;
        Some(Place { queue: Some(Arc::clone(queue)) })
    }

    pub(super) fn ask_for_flush(&self, done: SyncSender<()>) {
        self.lock().taken.flushes.push(done);
        self.arrived.notify_one();
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Whether the last write has failed.
    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Waits for something to write, and then for more of it for at most `gather`, unless somebody waits
    /// for it. False when nothing more will come.
    pub(super) fn wait(&self, gather: Duration) -> bool {
        let nothing = |waiting: &mut Waiting| waiting.taken.is_empty() && !waiting.closed;
        let waiting = self.arrived.wait_while(self.lock(), nothing);
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        let patient = |waiting: &mut Waiting| waiting.taken.flushes.is_empty() && !waiting.closed;
        let gathered = self.arrived.wait_timeout_while(waiting, gather, patient);
        let (waiting, _timed_out) = gathered.unwrap_or_else(PoisonError::into_inner);
        !waiting.taken.is_empty()
    }

    pub(super) fn take(&self) -> Taken {
        let mut waiting = self.lock();
        let text = std::mem::take(&mut waiting.spare);
        std::mem::replace(&mut waiting.taken, Taken { text, ..Taken::default() })
    }

    /// Frees the places of what was written, or lost, and tells those who waited.
    pub(super) fn written(&self, mut taken: Taken, outcome: Written) {
        self.failing.store(outcome == Written::Failed, Ordering::Relaxed);
        let mut waiting = self.lock();
        waiting.places -= taken.lines;
        if taken.text.capacity() <= KEPT {
            taken.text.clear();
            waiting.spare = taken.text;
        }
        drop(waiting);
        for done in taken.flushes {
            if done.try_send(()).is_err() {
                tracing::debug!("nobody waits for the flush any more");
            }
        }
    }
}

/// What became of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// All are in the log.
    Whole,
    /// Some are lost.
    Failed,
}
