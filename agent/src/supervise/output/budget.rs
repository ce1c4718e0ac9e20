//! Room that all output kept by an agent takes together, in memory or in spools: each keeper takes its
//! share as it grows and gives it back when it goes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The bytes that may still be taken.
#[derive(Debug, Clone)]
pub struct Budget {
    left: Arc<AtomicUsize>,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self { left: Arc::new(AtomicUsize::new(bytes)) }
    }

    /// An empty share of it.
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), held: 0 }
    }

    /// Takes at most `wanted` and says how much that was.
    fn take(&self, wanted: usize) -> usize {
        let mut taken = 0;
        let update = |left: usize| {
            taken = wanted.min(left);
            Some(left - taken)
        };
        // The function always gives a new value, so the update cannot fail.
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update).map_or(0, |_| taken)
    }

    /// Takes exactly `wanted`, or nothing.
    fn take_whole(&self, wanted: usize) -> bool {
        let update = |left: usize| left.checked_sub(wanted);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update).is_ok()
    }
}

/// What one keeper holds of a budget. Dropping it gives everything back.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    held: usize,
}

impl Share {
    /// Takes what is missing to hold `wanted` bytes, as far as there is any, and says how many it
    /// holds. It never gives back.
    pub fn grow_to(&mut self, wanted: usize) -> usize {
        if wanted > self.held {
            self.held += self.budget.take(wanted - self.held);
        }
        self.held
    }

    /// Takes all that is missing to hold `wanted` bytes, or nothing, and says whether it holds them.
    pub fn grow_whole_to(&mut self, wanted: usize) -> bool {
        let missing = wanted.saturating_sub(self.held);
        let taken = self.budget.take_whole(missing);
        if taken {
            self.held += missing;
        }
        taken
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.held, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_hold_more_than_there_is_and_give_it_back() {
        let budget = Budget::new(10);
        let (mut one, mut two) = (budget.share(), budget.share());
        assert_eq!((one.grow_to(6), two.grow_to(6)), (6, 4));
        assert_eq!(one.grow_to(2), 6, "a share never shrinks");
        drop(one);
        assert_eq!(two.grow_to(20), 10);
    }

    #[test]
    fn what_does_not_fit_whole_is_left_to_others() {
        let budget = Budget::new(10);
        let (mut one, mut two) = (budget.share(), budget.share());
        assert!(one.grow_whole_to(6) && one.grow_whole_to(2));
        assert!(!two.grow_whole_to(5) && two.grow_whole_to(4) && !two.grow_whole_to(usize::MAX));
        drop(one);
        assert!(two.grow_whole_to(10));
    }
}
