//! The only way out of a workspace: whitelist, credential injection, rules.

pub mod admin;
pub mod aws;
pub mod client;
pub mod credential;
pub mod gauges;
pub mod host;
pub mod policy;
pub mod refusal;
pub mod rules;
pub mod upstream;
