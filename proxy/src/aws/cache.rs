//! Credentials kept fresh: one task asks, everybody else reads.
//!
//! The request path never calls STS. It reads a snapshot and, in the first moments of the process,
//! waits for the attempt under way, however many requests wait with it. What is held is served until
//! half a minute before its end, whatever happens to STS meanwhile.
//!
//! Invariant: there is one task, so there is at most one call to STS at a time.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::sync::{Notify, watch};

use super::credentials::Credentials;
use super::schedule::{self, Dice, Retry};
use super::sts::{Sts, StsError};

/// How long a request waits for the first credentials.
const FIRST_WAIT: Duration = Duration::from_secs(10);
/// Longest sleep before the wall clock is looked at again: a paused machine or a corrected clock
/// must not let credentials run out.
const LONGEST_NAP: Duration = Duration::from_secs(60);
/// How quickly the task repeats itself; tests use shorter times.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// The first pause after a failure.
    pause_unit: Duration,
    /// The least time between an attempt and a refresh that an upstream asked for.
    early_interval: Duration,
}

impl Pace {
    const PRODUCTION: Self =
        Self { pause_unit: Duration::from_secs(1), early_interval: schedule::EARLY_INTERVAL };
}

/// There are no credentials to sign with.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("no usable AWS credentials")]
pub struct Unavailable;

/// What the task does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    /// An attempt is under way.
    Asking,
    /// The last attempt succeeded.
    Holding,
    /// The last attempt failed.
    Pausing,
}

/// What everybody sees.
#[derive(Clone, Debug)]
struct Snapshot {
    credentials: Option<Arc<Credentials>>,
    activity: Activity,
    failures: u64,
}

/// A handle to the credentials of one identity. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CredentialCache {
    snapshot: watch::Receiver<Snapshot>,
    early: Arc<Notify>,
}

/// The task that keeps the cache fresh, to be run once.
#[derive(Debug)]
pub struct Refresher {
    source: Sts,
    snapshot: watch::Sender<Snapshot>,
    early: Arc<Notify>,
    pace: Pace,
}

impl CredentialCache {
    /// A cache that holds `credentials` for ever.
    #[must_use]
    pub fn fixed(credentials: Credentials) -> Self {
        let snapshot = Snapshot {
            credentials: Some(Arc::new(credentials)),
            activity: Activity::Holding,
            failures: 0,
        };
        Self { snapshot: watch::channel(snapshot).1, early: Arc::default() }
    }

    /// A cache filled from `source` by the returned task.
    #[must_use]
    pub fn refreshed(source: Sts) -> (Self, Refresher) {
        let first = Snapshot { credentials: None, activity: Activity::Asking, failures: 0 };
        let (sender, snapshot) = watch::channel(first);
        let early = Arc::new(Notify::new());
        let cache = Self { snapshot, early: Arc::clone(&early) };
        let refresher = Refresher { source, snapshot: sender, early, pace: Pace::PRODUCTION };
        (cache, refresher)
    }

    /// Credentials that may sign now. Waits only while there are none and an attempt is under way.
    ///
    /// # Errors
    /// There are none, and the last attempt to get some failed or takes too long.
    pub async fn current(&self) -> Result<Arc<Credentials>, Unavailable> {
        let mut snapshot = self.snapshot.clone();
        let settled = snapshot.wait_for(|seen| {
            usable_in(seen, SystemTime::now()).is_some() || seen.activity != Activity::Asking
        });
        let seen = tokio::time::timeout(FIRST_WAIT, settled)
            .await
            .map_err(|_elapsed| Unavailable)?
            .map_err(|_task_ended| Unavailable)?;
        usable_in(&seen, SystemTime::now()).ok_or(Unavailable)
    }

    /// Whether a request could be signed at `now`.
    #[must_use]
    pub fn is_ready(&self, now: SystemTime) -> bool {
        usable_in(&self.snapshot.borrow(), now).is_some()
    }

    /// When the credentials end; `None` where there are none or they have no end.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        self.snapshot.borrow().credentials.as_ref().and_then(|held| held.expires())
    }

    /// How many attempts have failed since the start.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.snapshot.borrow().failures
    }

    /// Tells the task that an upstream found the credentials expired. At most one refresh in half a
    /// minute follows from it.
    pub fn rejected_by_upstream(&self) {
        self.early.notify_one();
    }
}

#[cfg(test)]
impl CredentialCache {
    /// Whether a complaint of an upstream waits for the task.
    pub(super) async fn has_complaint(&self) -> bool {
        use futures_util::FutureExt as _;
        self.early.notified().now_or_never().is_some()
    }
}

fn usable_in(snapshot: &Snapshot, now: SystemTime) -> Option<Arc<Credentials>> {
    snapshot.credentials.as_ref().filter(|held| schedule::usable(held.expires(), now)).cloned()
}

impl Refresher {
    /// Keeps the cache fresh until it is dropped.
    pub async fn run(self) {
        let mut failures_in_a_row = 0;
        loop {
            let started = SystemTime::now();
            self.set_activity(Activity::Asking);
            match self.source.assume_role().await {
                Ok(credentials) => {
                    failures_in_a_row = 0;
                    let due = self.store(credentials);
                    self.wait_until(due, started).await;
                }
                Err(error) => {
                    failures_in_a_row += 1;
                    let pause = self.note_failure(&error, failures_in_a_row);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn set_activity(&self, activity: Activity) {
        self.snapshot.send_modify(|seen| seen.activity = activity);
    }

    /// Publishes new credentials and says when they are due for replacement.
    fn store(&self, credentials: Credentials) -> SystemTime {
        let now = SystemTime::now();
        let due = credentials
            .expires()
            .map_or(now + LONGEST_NAP, |end| schedule::refresh_at(now, end, Dice::roll()));
        let life = due.duration_since(now).unwrap_or_default();
        tracing::info!(aws.refresh_in_s = life.as_secs(), "obtained AWS credentials");
        self.snapshot.send_modify(|seen| {
            seen.credentials = Some(Arc::new(credentials));
            seen.activity = Activity::Holding;
        });
        // Credentials that are over when they arrive must not make this a busy loop.
        due.max(now + self.pace.pause_unit)
    }

    fn note_failure(&self, error: &StsError, in_a_row: u32) -> Duration {
        let retry = error.retry();
        let pause = schedule::pause(retry, in_a_row, self.pace.pause_unit, Dice::roll());
        self.snapshot.send_modify(|seen| {
            seen.activity = Activity::Pausing;
            seen.failures += 1;
        });
        let serving = usable_in(&self.snapshot.borrow(), SystemTime::now()).is_some();
        log_failure(error, retry, pause, serving);
        pause
    }

    async fn wait_until(&self, due: SystemTime, last_attempt: SystemTime) {
        loop {
            let Ok(left) = due.duration_since(SystemTime::now()) else { return };
            // Nothing is lost when a branch is dropped: a sleep has no state and an unused
            // notification stays stored.
            tokio::select! {
                () = tokio::time::sleep(left.min(LONGEST_NAP)) => {}
                () = self.early.notified() => {
                    let now = SystemTime::now();
                    if schedule::early_refresh_allowed(last_attempt, now, self.pace.early_interval) {
                        tracing::warn!("an AWS service rejected the credentials as expired");
                        return;
                    }
                }
            }
        }
    }
}

fn log_failure(error: &StsError, retry: Retry, pause: Duration, serving: bool) {
    let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    if retry == Retry::Fatal || !serving {
        tracing::error!(%error, retry_in_ms = pause_ms, serving, "AWS credentials not obtained");
    } else {
        tracing::warn!(%error, retry_in_ms = pause_ms, serving, "AWS credentials not refreshed");
    }
}

#[cfg(test)]
mod tests;
