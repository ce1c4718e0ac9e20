//! The values that every request counts into, looked up once for each mode: a lookup by labels hashes
//! them and takes a lock that all threads share.

use std::sync::OnceLock;

use prometheus::{Histogram, IntCounter};

use crate::audit::mode::Mode;

/// The values of one mode.
#[derive(Debug)]
pub struct OfMode {
    /// Time from the request to the head of the answer.
    pub ttfb_seconds: Histogram,
    /// Requests that were let through.
    pub(super) ok: IntCounter,
}

/// Those of all modes that have occurred.
#[derive(Debug, Default)]
pub(super) struct Modes {
    unknown: OnceLock<OfMode>,
    connect: OnceLock<OfMode>,
    forward: OnceLock<OfMode>,
    route: OnceLock<OfMode>,
    aws: OnceLock<OfMode>,
}

impl Modes {
    pub(super) fn get_or_look_up(&self, mode: Mode, look_up: impl FnOnce() -> OfMode) -> &OfMode {
        let known = match mode {
            Mode::Unknown => &self.unknown,
            Mode::Connect => &self.connect,
            Mode::Forward => &self.forward,
            Mode::Route => &self.route,
            Mode::Aws => &self.aws,
        };
        known.get_or_init(look_up)
    }
}
