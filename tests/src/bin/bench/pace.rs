//! How long and how often. `WORKSPACE_BENCH_QUICK=1` makes one short round of everything, to see that
//! every row comes; its figures mean nothing, and the report says so.

use std::{sync::LazyLock, time::Duration};

static QUICK: LazyLock<bool> =
    LazyLock::new(|| std::env::var("WORKSPACE_BENCH_QUICK").is_ok_and(|value| value == "1"));
const SHORT: Duration = Duration::from_millis(200);

/// Whether only the presence of the rows counts.
pub(crate) fn is_quick() -> bool {
    *QUICK
}

pub(crate) fn rounds(full: usize) -> usize {
    if is_quick() { 1 } else { full }
}

pub(crate) fn time(full: Duration) -> Duration {
    if is_quick() { SHORT } else { full }
}
