//! What both binaries use: addresses to listen on, accepting and serving, stopping, error answers,
//! tokens, secrets, logging, and a small HTTP client for their own command lines.
//!
//! Nothing in here knows about processes, files, policy or credentials.

pub mod body;
pub mod client;
pub mod drain;
pub mod hop;
pub mod linger;
pub mod listen;
pub mod logging;
pub mod presence;
pub mod problem;
pub mod report;
pub mod secret;
pub mod serve;
pub mod size;
pub mod stream;
pub mod token;
