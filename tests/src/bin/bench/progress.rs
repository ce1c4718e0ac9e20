//! What is being done, on standard error: a whole run takes a quarter of an hour.

use std::{fmt::Display, sync::LazyLock, time::Instant};

static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Says it, with the seconds since the first thing that was said.
pub(crate) fn say(what: impl Display) {
    eprintln!("[{:>4} s] {what}", BEGUN.elapsed().as_secs());
}
