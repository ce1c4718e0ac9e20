//! Idle HTTP/1.1 connections, kept for a little while.
//!
//! A connection is kept under what it was permitted for: scheme, host, port and purpose. A request
//! gets one only with a permit of its own for the same, so reuse never outlives a decision; and a
//! connection that carried a credential is never used for another route or for none.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::host::{HostPort, Scheme};
use crate::policy::{Permit, Purpose};
use crate::upstream::line::Line;

/// How long an idle connection is kept. Shorter than the usual keep-alive of servers, so that we
/// close first and rarely write into a closed connection; and a bound on how long an address is
/// used after its name has moved.
pub const MAX_IDLE: Duration = Duration::from_secs(15);
/// Idle connections per destination.
const MAX_PER_KEY: usize = 32;
/// Idle connections altogether.
const MAX_TOTAL: usize = 256;

/// What a connection may be used for again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    scheme: Scheme,
    at: HostPort,
    purpose: Purpose,
}

impl Key {
    /// The key of a permit.
    #[must_use]
    pub fn of(permit: &Permit) -> Self {
        Self { scheme: permit.scheme(), at: permit.at().clone(), purpose: permit.purpose().clone() }
    }
}

/// A connection that has answered a request, and may be kept when the answer has been read.
#[derive(Debug)]
pub struct Lease {
    /// What it was permitted for.
    pub key: Key,
    /// The connection.
    pub line: Line,
}

/// The idle connections.
#[derive(Debug, Default)]
pub struct Pool(Mutex<Idle>);

#[derive(Debug, Default)]
struct Idle {
    connections: HashMap<Key, Vec<(Instant, Line)>>,
    total: usize,
    closed: bool,
}

impl Pool {
    /// A connection that is still open, the most recently used first.
    pub fn take(&self, key: &Key) -> Option<Line> {
        loop {
            let (since, mut line) = self.idle().pop(key)?;
            if since.elapsed() < MAX_IDLE && line.is_ready() {
                return Some(line);
            }
        }
    }

    /// Keeps a connection, unless there are enough.
    pub fn keep(&self, lease: Lease) {
        let mut idle = self.idle();
        if idle.total >= MAX_TOTAL {
            idle.sweep();
        }
        idle.push(lease);
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes what has been idle for too long.
    pub fn sweep(&self) {
        self.idle().sweep();
    }

    /// Closes everything that is idle.
    pub fn clear(&self) {
        let mut idle = self.idle();
        *idle = Idle { closed: idle.closed, ..Idle::default() };
    }

    /// Closes everything and keeps nothing more.
    pub fn close(&self) {
        let mut idle = self.idle();
        *idle = Idle { closed: true, ..Idle::default() };
    }
}

impl Idle {
    fn pop(&mut self, key: &Key) -> Option<(Instant, Line)> {
        let popped = self.connections.get_mut(key)?.pop()?;
        self.total = self.total.saturating_sub(1);
        Some(popped)
    }

    fn push(&mut self, lease: Lease) {
        if self.closed || self.total >= MAX_TOTAL {
            return;
        }
        let kept = self.connections.entry(lease.key).or_default();
        if kept.len() < MAX_PER_KEY {
            kept.push((Instant::now(), lease.line));
            self.total += 1;
        }
    }

    /// Nobody moves what is idle, so only now it shows which of them their origins have closed.
    fn sweep(&mut self) {
        self.connections.retain(|_, kept| {
            kept.retain_mut(|(since, line)| since.elapsed() < MAX_IDLE && line.is_ready());
            !kept.is_empty()
        });
        self.total = self.connections.values().map(Vec::len).sum();
    }
}
