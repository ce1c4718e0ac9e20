//! The only way out of a workspace: whitelist, credential injection, rules.

pub mod audit;
pub mod classify;
pub mod config;
pub mod hop;
pub mod host;
pub mod metrics;
pub mod policy;
pub mod refusal;
pub mod upstream;
