//! Mutated inputs against the parsers that face a workspace, an operator, an orchestrator or another
//! proxy. Each starts from the files of tests/corpus, which hold what was of interest once.
//!
//! It is not guided by coverage. What it looks for is a property that breaks, not only a panic.
//! `WORKSPACE_FUZZ_RUNS` is the number of inputs for each target; with it, each run has other inputs
//! unless `WORKSPACE_FUZZ_SEED` repeats one. The seed is printed.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says by what input it can be repeated"
)]

mod documents;
mod heads;
mod mutator;
mod targets;
