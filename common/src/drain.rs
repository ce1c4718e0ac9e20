//! Stopping in order: new work is refused, running work gets until a deadline, then it is cut.
//!
//! One [`DrainTrigger`] drives the whole process; everybody else holds a [`Drain`]. Every task is
//! spawned through [`Drain::spawn`], so that the end of the last one is the end of the process.

use std::{future::Future, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

/// How long cut tasks may take to notice before the process ends without them.
const CUT_GRACE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Running,
    Draining,
    Cut,
}

/// A view of the stop: whether it has begun, and whether patience has ended.
#[derive(Debug, Clone)]
pub struct Drain {
    stage: watch::Receiver<Stage>,
    tasks: TaskTracker,
}

/// Begins the stop. Not `Clone`: one place decides when the process ends.
#[derive(Debug)]
pub struct DrainTrigger {
    stage: watch::Sender<Stage>,
    tasks: TaskTracker,
}

/// Somebody for whom a stage must not end yet.
#[derive(Debug)]
pub struct Hold {
    _token: TaskTrackerToken,
}

/// A trigger and the view to hand around.
pub fn channel() -> (DrainTrigger, Drain) {
    let (sender, stage) = watch::channel(Stage::Running);
    let tasks = TaskTracker::new();
    (DrainTrigger { stage: sender, tasks: tasks.clone() }, Drain { stage, tasks })
}

impl Drain {
    /// Runs `task` and counts it: the process does not end before it, except after the cut.
    #[expect(clippy::disallowed_methods, reason = "this is the place that counts tasks")]
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.tasks.track_future(task))
    }

    /// Runs a task that lives as long as the process and must not hold its end up: it is dropped
    /// as soon as the stop begins.
    pub fn spawn_background<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let drain = self.clone();
        self.spawn(async move {
            tokio::select! {
                () = drain.started() => {}
                () = task => {}
            }
        });
    }

    /// Runs a task that serves the stop itself and so must outlive every counted one; only the end
    /// of the runtime ends it.
    #[expect(clippy::disallowed_methods, reason = "this is the place that starts tasks")]
    pub fn spawn_uncounted<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(task);
    }

    /// Holds the end of this stage up as a task does, without being one: until it is dropped.
    pub fn hold(&self) -> Hold {
        Hold { _token: self.tasks.token() }
    }

    /// Whether the stop has begun.
    pub fn is_draining(&self) -> bool {
        *self.stage.borrow() >= Stage::Draining
    }

    /// Whether patience has ended: whoever is dropped from now on may not have heard of it.
    pub fn is_cut(&self) -> bool {
        *self.stage.borrow() >= Stage::Cut
    }

    /// Resolves when the stop begins. Safe to cancel.
    pub async fn started(&self) {
        self.reached(Stage::Draining).await;
    }

    /// Resolves when running work must end now. Safe to cancel.
    pub async fn cut(&self) {
        self.reached(Stage::Cut).await;
    }

    async fn reached(&self, stage: Stage) {
        // A trigger that is gone will never ask for more: then this waits for ever, and the end of
        // the runtime ends it.
        if self.stage.clone().wait_for(|now| *now >= stage).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl DrainTrigger {
    /// Begins the stop.
    pub fn start(&self) {
        self.advance(Stage::Draining);
    }

    /// Ends what still runs.
    pub fn cut(&self) {
        self.advance(Stage::Cut);
    }

    fn advance(&self, to: Stage) {
        self.stage.send_if_modified(|stage| {
            let forward = *stage < to;
            if forward {
                *stage = to;
            }
            forward
        });
    }

    /// Resolves when no task is left.
    pub async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// [`stop_in_order`] with this one stage.
    pub async fn stop_on(&self, signals: &mut StopSignals, patience: Duration) {
        stop_in_order(&[self], signals, patience).await;
    }
}

/// Waits for SIGTERM or SIGINT, then stops the stages one after the other: each begins to drain when
/// nothing of the one before is left. `patience` is for all of them together; after it, or on a
/// second signal, whatever is left is cut.
pub async fn stop_in_order(
    stages: &[&DrainTrigger],
    signals: &mut StopSignals,
    patience: Duration,
) {
    let name = signals.next().await;
    tracing::info!(signal = name, patience_ms = patience.as_millis(), "stopping");
    let orderly = async {
        for stage in stages {
            stage.start();
            stage.finished().await;
        }
    };
    tokio::select! {
        () = orderly => return,
        name = signals.next() => tracing::warn!(signal = name, "second signal: stopping now"),
        () = tokio::time::sleep(patience) => tracing::warn!("drain deadline passed"),
    }
    stages.iter().for_each(|stage| stage.cut());
    let finished = async {
        for stage in stages {
            stage.finished().await;
        }
    };
    if timeout(CUT_GRACE, finished).await.is_err() {
        let tasks: usize = stages.iter().map(|stage| stage.tasks.len()).sum();
        tracing::warn!(tasks, "ending with tasks still running");
    }
}

/// The signals that ask the process to stop.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Installs the handlers; from here on these signals no longer end the process by themselves.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stages_are_seen_in_order_and_tasks_are_waited_for() {
        let (trigger, drain) = channel();
        assert!(!drain.is_draining());
        let worker = drain.clone();
        let task = drain.spawn(async move {
            worker.started().await;
            worker.cut().await;
        });
        trigger.start();
        assert!(drain.is_draining());
        assert!(!task.is_finished());
        trigger.cut();
        trigger.finished().await;
        assert!(task.is_finished());
    }

    #[tokio::test]
    async fn a_stop_never_goes_back() {
        let (trigger, drain) = channel();
        trigger.cut();
        trigger.start();
        drain.cut().await;
    }

    #[tokio::test]
    async fn whoever_holds_a_stage_is_waited_for() {
        let (trigger, drain) = channel();
        let hold = drain.hold();
        trigger.start();
        let finished = trigger.finished();
        tokio::pin!(finished);
        assert!(timeout(Duration::ZERO, finished.as_mut()).await.is_err());
        drop(hold);
        finished.await;
    }

    #[tokio::test]
    async fn background_tasks_do_not_hold_the_end_up() {
        let (trigger, drain) = channel();
        drain.spawn_background(std::future::pending());
        trigger.start();
        trigger.finished().await;
    }
}
