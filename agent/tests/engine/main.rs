//! Processes on the real kernel, without HTTP: outcomes, whole trees ended, statuses delivered to
//! their owners.
//!
//! In a test program of its own: the collector takes the status of every child of its process, and
//! so would take those that other tests wait for.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod ends;
mod harness;
mod outcomes;
