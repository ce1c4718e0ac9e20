//! The policy in force: replaced as a whole, read without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::policy::Policy;

/// A handle to the policy in force.
#[derive(Clone, Debug)]
pub struct LivePolicy(Arc<State>);

#[derive(Debug)]
struct State {
    policy: ArcSwap<Policy>,
    revision: AtomicU64,
}

impl LivePolicy {
    /// Puts the first policy into force.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let policy = ArcSwap::from_pointee(policy);
        Self(Arc::new(State { policy, revision: AtomicU64::new(0) }))
    }

    /// The policy now: one snapshot for one request.
    #[must_use]
    pub fn current(&self) -> Arc<Policy> {
        self.0.policy.load_full()
    }

    /// Puts another policy into force, for every request from here on.
    pub fn replace(&self, policy: Policy) {
        self.0.policy.store(Arc::new(policy));
        self.0.revision.fetch_add(1, Ordering::Relaxed);
    }

    /// How often the policy has been replaced.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.0.revision.load(Ordering::Relaxed)
    }
}
