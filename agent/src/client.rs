//! The command line as a client of an agent: one module a subcommand.
//!
//! Nothing here decides anything about the workspace; the agent at the other end does.

pub mod failure;
pub mod list;
pub mod progress;
pub mod pull;
pub mod push;

#[cfg(test)]
mod tests;
