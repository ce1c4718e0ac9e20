//! A closed loop: so many clients, each of which begins its next operation when its last has ended.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

use crate::series::percentile;

/// What came of a load.
#[derive(Debug)]
pub(crate) struct Load {
    latencies: Vec<Duration>,
    elapsed: Duration,
}

impl Load {
    /// Milliseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        percentile(&self.latencies, percent)
    }

    /// Operations per second.
    pub(crate) fn rate(&self) -> f64 {
        self.count() / self.elapsed.as_secs_f64()
    }

    pub(crate) fn count(&self) -> f64 {
        self.latencies.len() as f64
    }
}

/// Runs `clients` threads for `time`, each with an operation of its own from `make`, which begins
/// nothing new after it. All begin together, with everything that `make` prepares behind them.
pub(crate) fn closed_loop<W>(
    clients: usize,
    time: Duration,
    make: impl Fn() -> Result<W>,
) -> Result<Load>
where
    W: FnMut() -> Result<()> + Send,
{
    let workers = (0..clients).map(|_| make()).collect::<Result<Vec<W>>>()?;
    let start = Barrier::new(clients + 1);
    thread::scope(|scope| {
        let client = |worker| scope.spawn(|| one_client(worker, &start, time));
        let clients: Vec<_> = workers.into_iter().map(client).collect();
        start.wait();
        let begun = Instant::now();
        let mut latencies = Vec::new();
        for client in clients {
            latencies.extend(client.join().map_err(|_panic| anyhow!("a client panicked"))??);
        }
        Ok(Load { latencies, elapsed: begun.elapsed() })
    })
}

fn one_client(
    mut operation: impl FnMut() -> Result<()>,
    start: &Barrier,
    time: Duration,
) -> Result<Vec<Duration>> {
    start.wait();
    let end = Instant::now() + time;
    let mut latencies = Vec::new();
    loop {
        let begun = Instant::now();
        if begun >= end {
            return Ok(latencies);
        }
        operation()?;
        latencies.push(begun.elapsed());
    }
}
