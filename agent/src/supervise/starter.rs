//! Where a start is made. Who starts a process waits for it in the kernel until it has become its program
//! (vfork(2)): a fraction of a millisecond, unless the disk is slow, or somebody has stopped the new
//! process meanwhile.
//!
//! To hand the other work of a thread over first costs more than the whole start, so a few starts are made
//! where they are asked for, never on all threads at once. Those that are left may all be asleep, with
//! nobody to hear of events: a start that is not over soon has one of them woken.

use std::{
    collections::BTreeMap,
    future::ready,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore},
    task::block_in_place,
};
use workspace_common::drain::Drain;

/// A start that takes longer than this is slow. So long, and as long again, may all else have to wait.
const SLOW: Duration = Duration::from_millis(5);
/// The stack of the thread that looks for slow starts: it does little else.
const WATCHER_STACK: usize = 64 << 10;

/// Makes starts.
#[derive(Debug)]
pub(super) struct Starter {
    /// How many more may be made where they are asked for.
    places: Semaphore,
    watch: Arc<Watch>,
    drain: Drain,
}

#[derive(Debug, Default)]
struct Watch {
    state: Mutex<State>,
    /// A start has begun, or nobody makes any more.
    changed: Condvar,
    /// A start is slow.
    slow: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// What is being started, by its number, and since when.
    starting: BTreeMap<u64, Instant>,
    next: u64,
    /// The watcher has seen nobody start anything for a while.
    asleep: bool,
    closed: bool,
}

/// A start that lasts until it is dropped.
struct Lasting<'a> {
    watch: &'a Watch,
    number: u64,
}

impl Starter {
    /// Call it inside the runtime.
    pub(super) fn new(drain: &Drain) -> Self {
        let watch = Arc::new(Watch::default());
        let workers = Handle::current().metrics().num_workers();
        let places = match watch.start(drain) {
            Ok(()) => workers.saturating_sub(1),
            Err(error) => {
                tracing::debug!(%error, "nobody looks for slow starts: none is made in place");
                0
            }
        };
        Self { places: Semaphore::new(places), watch, drain: drain.clone() }
    }

    /// Runs `start` in place when there is a place, if it is `quick`: then it waits for nothing but the new
    /// process. It waits for no place: on a busy machine many starts wait for the processors at once.
    pub(super) fn run<T>(&self, quick: bool, start: impl FnOnce() -> T) -> T {
        let place = if quick { self.places.try_acquire().ok() } else { None };
        let Some(_place) = place else { return block_in_place(start) };
        // What this task has woken last waits for this very thread, and no other can take it over: an empty
        // task takes its place.
        self.drain.spawn_uncounted(ready(()));
        let _lasting = self.watch.begin();
        start()
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        self.watch.lock().closed = true;
        self.watch.changed.notify_one();
    }
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can leave the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(self: &Arc<Self>, drain: &Drain) -> io::Result<()> {
        let watcher = self.clone();
        let builder = thread::Builder::new().name("starts".to_owned()).stack_size(WATCHER_STACK);
        builder.spawn(move || watcher.run())?;
        let sleeper = self.clone();
        // To be woken is all there is to do: whoever wakes looks for events before it sleeps again.
        drain.spawn_uncounted(async move {
            loop {
                sleeper.slow.notified().await;
            }
        });
        Ok(())
    }

    fn begin(&self) -> Lasting<'_> {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.starting.insert(number, Instant::now());
        // Most starts follow one another, and find it awake.
        if std::mem::take(&mut state.asleep) {
            self.changed.notify_one();
        }
        Lasting { watch: self, number }
    }

    /// Looks for slow starts as long as there are any, and sleeps when there have been none for a while.
    fn run(&self) {
        let mut seen = 0;
        while let Some(next) = self.await_start(seen) {
            seen = next;
            let lasts = |state: &mut State| !state.closed;
            let waited = self.changed.wait_timeout_while(self.lock(), SLOW, lasts);
            let (state, _timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
            if state.starting.values().any(|begun| begun.elapsed() >= SLOW) {
                self.slow.notify_one();
            }
        }
    }

    /// Waits until a start lasts, or one has begun since the first `seen`. Says how many have begun, or
    /// that there will be no more.
    fn await_start(&self, seen: u64) -> Option<u64> {
        let mut state = self.lock();
        let idle = |state: &mut State| {
            state.asleep = !state.closed && state.next == seen && state.starting.is_empty();
            state.asleep
        };
        state = self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        (!state.closed).then_some(state.next)
    }
}

impl Drop for Lasting<'_> {
    fn drop(&mut self) {
        self.watch.lock().starting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::net::UnixStream, sync::mpsc};

    use tokio::runtime::{Builder, Runtime};
    use workspace_common::drain;

    use super::*;

    fn runtime(threads: usize) -> Runtime {
        Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap()
    }

    /// A byte that somebody waits for inside the runtime, and the end to send it from.
    fn byte() -> (impl Future<Output = ()> + Send, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let coming = async move {
            ours.set_nonblocking(true).unwrap();
            let ours = tokio::net::UnixStream::from_std(ours).unwrap();
            ours.readable().await.unwrap();
        };
        (coming, theirs)
    }

    /// Of two threads that sleep one hears of events: it is held up by a start, until another event has
    /// been heard of.
    #[test]
    fn a_start_that_is_held_up_does_not_hold_up_the_others() {
        let runtime = runtime(2);
        let (_trigger, drain) = drain::channel();
        let starter = Arc::new(runtime.block_on(async { Starter::new(&drain) }));
        for _ in 0..20 {
            let (began, has_begun) = mpsc::channel();
            let (heard, has_heard) = mpsc::channel();
            let ((request, mut ask), (event, mut raise)) = (byte(), byte());
            let start = move || {
                began.send(()).unwrap();
                has_heard.recv_timeout(Duration::from_secs(10))
            };
            let (starter, _inside) = (starter.clone(), runtime.enter());
            drain.spawn(async move {
                event.await;
                heard.send(()).unwrap();
            });
            let started = drain.spawn(async move {
                request.await;
                starter.run(true, start)
            });
            let metrics = runtime.metrics();
            let sleeps = |worker| metrics.worker_park_unpark_count(worker) % 2 == 1;
            while !(sleeps(0) && sleeps(1)) {
                thread::yield_now();
            }
            ask.write_all(b"x").unwrap();
            has_begun.recv().unwrap();
            raise.write_all(b"x").unwrap();
            runtime.block_on(started).unwrap().unwrap();
        }
    }

    #[test]
    fn what_was_woken_last_is_not_held_up() {
        let runtime = runtime(2);
        let (_trigger, drain) = drain::channel();
        let starter = runtime.block_on(async { Starter::new(&drain) });
        let (ran, has_run) = mpsc::channel();
        let _inside = runtime.enter();
        let inner = drain.clone();
        let started = drain.spawn(async move {
            inner.spawn(async move { ran.send(()).unwrap() });
            starter.run(true, move || has_run.recv_timeout(Duration::from_secs(10)))
        });
        runtime.block_on(started).unwrap().unwrap();
    }

    #[test]
    fn one_thread_is_left_that_serves() {
        for (threads, places) in [(1, 0), (2, 1), (3, 2)] {
            let runtime = runtime(threads);
            let (_trigger, drain) = drain::channel();
            let starter = runtime.block_on(async { Starter::new(&drain) });
            assert_eq!(starter.places.available_permits(), places);
        }
    }
}
