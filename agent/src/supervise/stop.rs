//! The wish that a command ends, and how long it may take to comply.
//!
//! Invariant: a wish is never withdrawn, and a later one can only make the end come sooner.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// A cheap handle by which the end of a command is asked for.
#[derive(Debug, Clone)]
pub struct Stop {
    /// When KILL is due.
    due: Arc<watch::Sender<Option<Instant>>>,
}

impl Stop {
    pub(super) fn new() -> Self {
        Self { due: Arc::new(watch::Sender::new(None)) }
    }

    /// Asks for the end: TERM now, KILL after `grace` at the latest.
    pub fn ask(&self, grace: Duration) {
        let due = Instant::now() + grace;
        self.due.send_if_modified(|known| {
            let sooner = known.is_none_or(|known| due < known);
            if sooner {
                *known = Some(due);
            }
            sooner
        });
    }

    pub(super) fn is_asked(&self) -> bool {
        self.due.borrow().is_some()
    }

    /// Resolves when the end has been asked for. Safe to cancel.
    pub(super) async fn asked(&self) {
        // The sender is this handle's own, so it cannot be gone.
        if self.due.subscribe().wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Resolves when KILL is due. Safe to cancel.
    pub(super) async fn overdue(&self) {
        let mut changes = self.due.subscribe();
        loop {
            let due = *changes.borrow_and_update();
            let waiting = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = waiting => return,
                _ = changes.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_later_wish_makes_the_end_come_sooner_and_never_later() {
        let stop = Stop::new();
        assert!(!stop.is_asked());
        stop.ask(Duration::from_secs(3600));
        stop.asked().await;
        let waiting = stop.overdue();
        let sooner = stop.clone();
        tokio::join!(waiting, async move { sooner.ask(Duration::ZERO) });
        stop.ask(Duration::from_secs(3600));
        stop.overdue().await;
    }
}
