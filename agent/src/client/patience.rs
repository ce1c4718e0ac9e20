//! How long a transfer is tried again: as long as it gets on, and for a while when it does not.

use std::time::{Duration, Instant};

use http::StatusCode;

use super::failure::Failure;

/// The first pause between two tries; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The time that is left without getting on.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Duration,
    since: Instant,
    pause: Duration,
    reached: u64,
}

impl Patience {
    /// Gives up after `limit` without progress.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, since: Instant::now(), pause: FIRST_PAUSE, reached: 0 }
    }

    /// Notes how far the transfer is; whatever is further than before is progress.
    pub(super) fn note(&mut self, reached: u64) {
        if reached > self.reached {
            *self = Self { reached, ..Self::new(self.limit) };
        }
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// The failure itself, where another try cannot help, or there is no time left.
    pub(super) async fn wait_after(&mut self, failure: Failure) -> Result<(), Failure> {
        let Some(pause) = self.pause_after(&failure, self.since.elapsed()) else {
            return Err(failure);
        };
        tracing::debug!(error = %failure, "trying again");
        tokio::time::sleep(pause).await;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }

    /// How long to wait, if at all, `elapsed` after the last progress.
    fn pause_after(&self, failure: &Failure, elapsed: Duration) -> Option<Duration> {
        (may_pass(failure) && elapsed + self.pause <= self.limit).then_some(self.pause)
    }
}

/// Whether the same may succeed later: the connection broke, another request has not ended yet, or
/// the agent is busy or gone for a while.
fn may_pass(failure: &Failure) -> bool {
    match failure {
        Failure::Refused { status, code, .. } => {
            matches!(*status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT)
                || matches!(
                    code.as_str(),
                    "upload_busy" | "upload_offset_mismatch" | "upload_cut" | "too_many_transfers"
                )
        }
        failure => failure.is_of_the_connection(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: &str) -> Failure {
        let status = StatusCode::from_u16(status).unwrap();
        Failure::Refused { status, code: code.to_owned(), detail: String::new() }
    }

    #[test]
    fn what_may_pass_is_tried_until_the_time_is_up_and_the_rest_not_at_all() {
        let mut patience = Patience::new(Duration::from_secs(1));
        let pause = |patience: &Patience, failure, elapsed| {
            patience.pause_after(&failure, Duration::from_millis(elapsed))
        };
        assert_eq!(pause(&patience, refused(409, "upload_busy"), 0), Some(FIRST_PAUSE));
        assert_eq!(pause(&patience, refused(503, "draining"), 950), Some(FIRST_PAUSE));
        assert_eq!(pause(&patience, refused(503, "draining"), 951), None);
        assert_eq!(pause(&patience, refused(403, "outside_root"), 0), None);
        assert_eq!(pause(&patience, refused(412, "precondition_failed"), 0), None);
        patience.pause = LONGEST_PAUSE;
        patience.note(0);
        assert_eq!(patience.pause, LONGEST_PAUSE, "nothing was reached");
        patience.note(1);
        assert_eq!(patience.pause, FIRST_PAUSE);
    }
}
