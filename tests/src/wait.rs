//! Waiting for conditions.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Longer than anything takes on a loaded machine with two cores; only failures wait for it.
pub const DEADLINE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);

/// Asks until there is an answer.
///
/// # Errors
/// When there is none within [`DEADLINE`]; `what` then says what was waited for.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if Instant::now() > end {
            bail!("waited {DEADLINE:?} in vain until {what}");
        }
        std::thread::sleep(PAUSE);
    }
}
