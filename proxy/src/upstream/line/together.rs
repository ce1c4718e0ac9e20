//! Futures of one task that wake each other.
//!
//! Who wakes a task while it runs has the runtime run it once more, and perhaps rouse another thread for
//! that. What is polled here is given a waker that knows whether it is being polled right now: then
//! another turn is all that it needs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Turns after which other tasks have theirs.
const MOST_TURNS: usize = 64;

/// Polls them, for whatever task asks.
#[derive(Debug)]
pub(super) struct Together {
    woken: Arc<Woken>,
    waker: Waker,
}

impl Together {
    pub(super) fn new() -> Self {
        let woken = Arc::<Woken>::default();
        Self { waker: Waker::from(Arc::clone(&woken)), woken }
    }

    /// Takes turns until one is ready, or wakes nobody.
    pub(super) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        mut turn: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.woken.task.register(cx.waker());
        for _ in 0..MOST_TURNS {
            self.woken.again.store(false, Ordering::SeqCst);
            self.woken.polling.store(true, Ordering::SeqCst);
            let outcome = turn(&mut Context::from_waker(&self.waker));
            self.woken.polling.store(false, Ordering::SeqCst);
            if outcome.is_ready() || !self.woken.again.load(Ordering::SeqCst) {
                return outcome;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Each side writes its own flag before it reads the other's, so one of them sees the other: no wish to
/// be polled is lost, whatever thread it comes from.
#[derive(Debug, Default)]
struct Woken {
    task: AtomicWaker,
    polling: AtomicBool,
    again: AtomicBool,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.again.store(true, Ordering::SeqCst);
        if !self.polling.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts how often its task is woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn what_wakes_itself_is_polled_again_and_the_task_is_not_woken() {
        let (task, together) = (Arc::<Task>::default(), Together::new());
        let waker = Waker::from(Arc::clone(&task));
        let mut turns = 0;
        let outcome = together.poll(&mut Context::from_waker(&waker), |cx| {
            turns += 1;
            cx.waker().wake_by_ref();
            if turns == 3 { Poll::Ready(()) } else { Poll::Pending }
        });
        assert_eq!((outcome, turns), (Poll::Ready(()), 3));
        assert_eq!(task.0.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn what_is_woken_later_wakes_the_task() {
        let (task, together) = (Arc::<Task>::default(), Together::new());
        let waker = Waker::from(Arc::clone(&task));
        let mut kept = None;
        let outcome = together.poll(&mut Context::from_waker(&waker), |cx| {
            kept = Some(cx.waker().clone());
            Poll::<()>::Pending
        });
        assert!(outcome.is_pending());
        kept.unwrap().wake();
        assert_eq!(task.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn what_never_stops_waking_itself_lets_others_have_a_turn() {
        let (task, together) = (Arc::<Task>::default(), Together::new());
        let waker = Waker::from(Arc::clone(&task));
        let outcome = together.poll(&mut Context::from_waker(&waker), |cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(outcome.is_pending());
        assert_eq!(task.0.load(Ordering::SeqCst), 1, "it is to be polled again");
    }
}
