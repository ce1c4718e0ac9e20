//! Backpressure, for commands that asked for it: the command is read no faster than the slowest of
//! its attached readers takes the output.
//!
//! Invariant: nobody waits for the dead. A reader that goes gives its seat up, and without readers a
//! command runs freely, but for the time before its first one has come.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::Stream;

/// Who reads, and how far each has come.
#[derive(Debug)]
pub struct Pace {
    seats: Mutex<Seats>,
    moved: Notify,
}

#[derive(Debug, Default)]
struct Seats {
    next: u64,
    positions: HashMap<u64, [u64; 2]>,
    /// Whether the first reader is still to come.
    awaited: bool,
}

/// A reader's place. Dropping it gives it up.
#[derive(Debug)]
pub struct Seat {
    pace: Arc<Pace>,
    number: u64,
}

impl Pace {
    /// Waits for a first reader.
    pub fn new() -> Arc<Self> {
        let seats = Seats { awaited: true, ..Seats::default() };
        Arc::new(Self { seats: Mutex::new(seats), moved: Notify::new() })
    }

    /// A place for a reader that begins at these offsets.
    pub fn take_seat(self: &Arc<Self>, from: [u64; 2]) -> Seat {
        let mut seats = self.lock();
        let number = seats.next;
        seats.next += 1;
        seats.awaited = false;
        seats.positions.insert(number, from);
        drop(seats);
        self.moved.notify_waiters();
        Seat { pace: self.clone(), number }
    }

    /// No reader is to be waited for any more, if none has come.
    pub fn release(&self) {
        self.lock().awaited = false;
        self.moved.notify_waiters();
    }

    /// Resolves to how many bytes after `end` may be read from the command, when `capacity` of them
    /// are kept for readers. Safe to cancel.
    pub async fn room(&self, stream: Stream, end: u64, capacity: usize) -> usize {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            // Before the look: what moves after it wakes us.
            moved.as_mut().enable();
            let room = self.lock().room(stream, end, capacity);
            if room > 0 {
                return room;
            }
            moved.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seats {
    fn room(&self, stream: Stream, end: u64, capacity: usize) -> usize {
        let positions = self.positions.values().map(|[out, err]| match stream {
            Stream::Stdout => *out,
            Stream::Stderr => *err,
        });
        let slowest = positions.min().or_else(|| self.awaited.then_some(0));
        let Some(slowest) = slowest else { return usize::MAX };
        let ahead = usize::try_from(end.saturating_sub(slowest)).unwrap_or(usize::MAX);
        capacity.saturating_sub(ahead)
    }
}

impl Seat {
    /// Says how far this reader has come.
    pub fn advance(&self, stream: Stream, position: u64) {
        if let Some([out, err]) = self.pace.lock().positions.get_mut(&self.number) {
            match stream {
                Stream::Stdout => *out = position,
                Stream::Stderr => *err = position,
            }
        }
        self.pace.moved.notify_waiters();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.pace.lock().positions.remove(&self.number);
        self.pace.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn the_slowest_reader_sets_the_pace_and_the_dead_do_not() {
        let pace = Pace::new();
        let mut waiting = std::pin::pin!(pace.room(Stream::Stdout, 10, 10));
        assert!(poll!(waiting.as_mut()).is_pending(), "the first reader is awaited");
        let slow = pace.take_seat([0, 0]);
        let fast = pace.take_seat([0, 0]);
        fast.advance(Stream::Stdout, 10);
        assert!(poll!(waiting.as_mut()).is_pending());
        slow.advance(Stream::Stdout, 4);
        assert_eq!(waiting.await, 4);
        assert_eq!(pace.room(Stream::Stderr, 0, 10).await, 10);
        drop(slow);
        assert_eq!(pace.room(Stream::Stdout, 10, 10).await, 10);
        drop(fast);
        assert_eq!(pace.room(Stream::Stdout, 10, 10).await, usize::MAX);
    }
}
