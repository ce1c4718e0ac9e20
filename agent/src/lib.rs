//! PID 1 of a workspace container: runs commands and moves files for an orchestrator.
//!
//! The life of a request: [`server`] binds every listener, [`isolate`] takes the process out of the
//! pod's network, [`seccomp`] closes the kernel's side doors, then the runtime starts; [`router`]
//! turns a request into an action; [`exec`], [`processes`], [`events`], [`files`] and [`sync`] are
//! the HTTP faces of the cores beneath them: [`supervise`] knows
//! processes, [`files::root`] knows the file tree, and neither knows HTTP. [`forward`] is the way
//! out: loopback ports inside the isolated network, each leading to a Unix socket; [`preview`] is
//! the way in. [`client`] is the same binary as the command line of an orchestrator.

pub mod cli;
pub mod server;

pub mod forward;
pub mod isolate;
pub mod seccomp;

pub mod router;

pub mod environment;
pub mod events;
pub mod exec;
pub mod processes;
pub mod supervise;

pub mod files;
pub mod sync;

pub mod preview;

pub mod metrics;

pub mod client;

pub mod kernel_file;
pub mod sys;
