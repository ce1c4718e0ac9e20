//! How long the streams of a rule may live: until the rule expires or is withdrawn.
//!
//! A lease outlives the rule that it came with. When a document renews a rule, new headers apply to
//! new requests and the lease passes on, so that rotating a token cuts no stream.

use std::time::{Duration, SystemTime};

use tokio::sync::watch;

/// Longest sleep before the wall clock is looked at again, since clocks are corrected.
const LONGEST_NAP: Duration = Duration::from_secs(60);

/// What happens to live streams when their rule ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRevoke {
    /// They are cut.
    #[default]
    Close,
    /// They run to their own end.
    Finish,
}

impl OnRevoke {
    /// The word in documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::Finish => "finish",
        }
    }
}

/// The terms of a lease at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// When the rule ends by itself.
    pub expires: Option<SystemTime>,
    /// What happens then.
    pub on_revoke: OnRevoke,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Held(Terms),
    Withdrawn(OnRevoke),
}

/// A right to keep streams open, shared by all generations of a rule.
#[derive(Debug)]
pub struct Lease(watch::Sender<State>);

impl Lease {
    /// A lease on these terms.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        Self(watch::channel(State::Held(terms)).0)
    }

    /// New terms for the streams that live.
    pub fn renew(&self, terms: Terms) {
        self.0.send_replace(State::Held(terms));
    }

    /// The rule is gone.
    pub fn withdraw(&self) {
        self.0.send_modify(|state| {
            if let State::Held(terms) = *state {
                *state = State::Withdrawn(terms.on_revoke);
            }
        });
    }

    /// Resolves when live streams are to be cut. Safe to cancel.
    pub async fn ended(&self) {
        let mut state = self.0.subscribe();
        loop {
            let seen = *state.borrow_and_update();
            let nap = match seen {
                State::Withdrawn(OnRevoke::Close) => return,
                State::Held(Terms { expires: Some(end), on_revoke: OnRevoke::Close }) => {
                    match end.duration_since(SystemTime::now()) {
                        Ok(left) if !left.is_zero() => Some(left.min(LONGEST_NAP)),
                        _ => return,
                    }
                }
                State::Withdrawn(OnRevoke::Finish) | State::Held(_) => None,
            };
            // Nothing is lost when a branch is dropped: the state is looked at anew each time. The
            // sender is `self`, so it cannot be gone.
            tokio::select! {
                _changed = state.changed() => {}
                () = sleep(nap) => {}
            }
        }
    }
}

async fn sleep(nap: Option<Duration>) {
    match nap {
        Some(nap) => tokio::time::sleep(nap).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn close(expires: Option<SystemTime>) -> Terms {
        Terms { expires, on_revoke: OnRevoke::Close }
    }

    #[tokio::test]
    async fn a_withdrawn_lease_ends_streams() {
        let lease = Lease::new(close(None));
        let mut ended = pin!(lease.ended());
        let mut context = Context::from_waker(Waker::noop());
        assert!(ended.as_mut().poll(&mut context).is_pending());
        lease.withdraw();
        ended.await;
        lease.ended().await;
    }

    #[tokio::test]
    async fn streams_that_may_finish_are_left_alone() {
        let past = SystemTime::UNIX_EPOCH;
        let lease = Lease::new(Terms { expires: Some(past), on_revoke: OnRevoke::Finish });
        lease.withdraw();
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(lease.ended()).poll(&mut context).is_pending());
    }

    #[tokio::test]
    async fn an_expired_lease_ends_streams_and_a_renewed_one_does_not() {
        let soon = SystemTime::now() + Duration::from_millis(20);
        Lease::new(close(Some(soon))).ended().await;
        let lease = Lease::new(close(Some(SystemTime::UNIX_EPOCH)));
        lease.renew(close(None));
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(lease.ended()).poll(&mut context).is_pending());
    }
}
