//! Mutated inputs against the parsers that face a workspace, an operator, an orchestrator or another
//! proxy. Each starts from the files of tests/corpus; `workspace_fuzz` says how they are mutated.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and says by what input it can be repeated"
)]

mod documents;
mod heads;
mod inputs;
mod targets;
