//! Harness of the end-to-end tests: starts the real binaries, speaks to them in raw bytes, and
//! brings the peers they meet in production.
//!
//! What it is not: a client library. Everything here is blocking and small, and shares no code with
//! the product, so that a mistake of the product cannot hide in the test.
//!
//! Invariants: no test waits for time to pass (it waits for a condition, with a deadline), every
//! process started here ends with the value that holds it, and a test whose tool is absent says so
//! by name (see [`require!`]).

pub mod agent;
pub mod ambush;
pub mod attached;
pub mod bad_inputs;
pub mod binaries;
pub mod ca;
pub mod clients;
pub mod commands;
pub mod differential;
pub mod dns;
pub mod docker;
pub mod gvisor;
pub mod hello;
pub mod hostile_archives;
pub mod http;
pub mod image;
pub mod isolation;
pub mod manifests;
pub mod mcp;
pub mod mounts;
pub mod namespace;
pub mod origin;
pub mod peer;
pub mod process;
pub mod proxy;
pub mod relay;
pub mod tar;
pub mod terminal;
pub mod tools;
pub mod tree;
pub mod upstream_proxy;
pub mod wait;
pub mod world;
