//! The limit on descriptors, which every program started here inherits.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than anything here needs.
const ENOUGH: u64 = 65_536;
/// What a server has open besides those that are counted.
const SPARE: u64 = 800;

/// Raises the limit as far as it goes, and says how many things a server may have that take two
/// descriptors each: at most so many.
pub(crate) fn room_for_pairs(most: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(ENOUGH).min(ENOUGH);
    // Where it stays as it was, that is what there is.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(hard), ..limit });
    let there = if raised.is_ok() { Some(hard) } else { limit.current };
    let pairs = there.unwrap_or(0).saturating_sub(SPARE) / 2;
    usize::try_from(pairs).unwrap_or(most).min(most)
}
