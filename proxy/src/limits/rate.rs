//! How often each host may be asked.
//!
//! A host has one number: the moment at which all that was admitted is paid for, each request at the
//! price of its interval (the generic cell rate algorithm). It may lie a second ahead, so that a
//! second's worth may come at once.
//!
//! Memory is bounded: a host whose moment has passed is as good as unknown and is forgotten. When more
//! hosts than have a place are busy at a time, the rest of them share one moment.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::host::Host;

/// Hosts that are known at a time.
const MAX_HOSTS: usize = 4096;
/// How far ahead a host's moment may lie.
const WINDOW: Duration = Duration::from_secs(1);
/// Pause between two searches for hosts to forget, so that a full table costs each request little.
const SWEEP_PAUSE: Duration = Duration::from_millis(100);

/// The rate of every host.
#[derive(Debug)]
pub struct HostRate {
    interval: Duration,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    paid: HashMap<Host, Instant>,
    /// Of the hosts that have no place.
    rest: Option<Instant>,
    swept: Option<Instant>,
}

impl HostRate {
    /// So many requests a second.
    #[must_use]
    pub fn new(per_second: NonZeroU32) -> Self {
        Self { interval: WINDOW / per_second.get(), table: Mutex::default() }
    }

    /// Admits a request to a host.
    ///
    /// # Errors
    /// The time after which the next one would be admitted.
    pub fn admit(&self, host: &Host, now: Instant) -> Result<(), Duration> {
        // A number that is half written would cost one host some requests, and there is none.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let paid = table.paid_until(host, now).max(now);
        let next = paid + self.interval;
        match next.duration_since(now).checked_sub(WINDOW).filter(|over| !over.is_zero()) {
            Some(over) => Err(over),
            None => {
                table.pay(host, next);
                Ok(())
            }
        }
    }
}

impl Table {
    fn paid_until(&mut self, host: &Host, now: Instant) -> Instant {
        if let Some(paid) = self.paid.get(host) {
            return *paid;
        }
        if self.paid.len() >= MAX_HOSTS {
            self.sweep(now);
        }
        if self.paid.len() >= MAX_HOSTS { self.rest.unwrap_or(now) } else { now }
    }

    fn pay(&mut self, host: &Host, until: Instant) {
        if let Some(paid) = self.paid.get_mut(host) {
            *paid = until;
        } else if self.paid.len() < MAX_HOSTS {
            self.paid.insert(host.clone(), until);
        } else {
            self.rest = Some(until);
        }
    }

    fn sweep(&mut self, now: Instant) {
        let due = self.swept.is_none_or(|swept| now.duration_since(swept) >= SWEEP_PAUSE);
        if due {
            self.swept = Some(now);
            self.paid.retain(|_, paid| *paid > now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: u32) -> HostRate {
        HostRate::new(NonZeroU32::new(per_second).unwrap())
    }

    fn host(n: usize) -> Host {
        Host::parse(&format!("h{n}.example")).unwrap()
    }

    #[test]
    fn a_seconds_worth_comes_at_once_and_the_rest_at_the_rate() {
        let (rate, begun) = (rate(10), Instant::now());
        for _ in 0..10 {
            assert_eq!(rate.admit(&host(1), begun), Ok(()));
        }
        assert_eq!(rate.admit(&host(1), begun), Err(Duration::from_millis(100)));
        // Another host has a rate of its own.
        assert_eq!(rate.admit(&host(2), begun), Ok(()));
        let later = begun + Duration::from_millis(100);
        assert_eq!(rate.admit(&host(1), later), Ok(()));
        assert!(rate.admit(&host(1), later).is_err());
        // What was refused has cost nothing.
        let much_later = begun + Duration::from_secs(60);
        let admitted = (0..100).filter(|_| rate.admit(&host(1), much_later).is_ok()).count();
        assert_eq!(admitted, 10);
    }

    #[test]
    fn memory_is_bounded_and_idle_hosts_are_forgotten() {
        let (rate, begun) = (rate(1), Instant::now());
        let known = |rate: &HostRate| rate.table.lock().unwrap().paid.len();
        for n in 0..MAX_HOSTS {
            assert_eq!(rate.admit(&host(n), begun), Ok(()));
        }
        // The rest of the hosts share one rate.
        assert_eq!(rate.admit(&host(MAX_HOSTS), begun), Ok(()));
        assert!(rate.admit(&host(MAX_HOSTS + 1), begun).is_err());
        assert_eq!(known(&rate), MAX_HOSTS);
        let later = begun + Duration::from_secs(5);
        assert_eq!(rate.admit(&host(MAX_HOSTS + 1), later), Ok(()));
        assert_eq!(known(&rate), 1);
    }
}
