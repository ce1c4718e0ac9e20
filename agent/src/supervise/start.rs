//! What a request to start a command comes to.

use std::{io, sync::Arc};

use super::{process::Process, spawn::StartError};

/// What a start came to.
#[derive(Debug)]
pub enum Start {
    /// The command has been started.
    New(Arc<Process>),
    /// It had been, by the same request.
    Repeated(Arc<Process>),
}

impl Start {
    /// The command, either way.
    pub fn process(&self) -> &Arc<Process> {
        let (Self::New(process) | Self::Repeated(process)) = self;
        process
    }
}

/// Why a command did not start.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The agent is stopping.
    #[error("the workspace is stopping and starts no more commands")]
    Draining,
    /// As many commands run as may.
    #[error("{0} commands are running, which is the limit (--max-processes)")]
    TooMany(usize),
    /// The id names a command that was asked for in other words.
    #[error("id '{0}' names another command, which was started by another request")]
    InUse(String),
    /// The id looks like one of the agent's own.
    #[error("id '{0}' begins like those that the agent makes itself: choose another")]
    Reserved(String),
    /// Its output cannot be spooled.
    #[error("cannot make a file in the spool directory: {0}")]
    Spool(io::Error),
    /// The command itself is at fault.
    #[error(transparent)]
    Start(#[from] StartError),
}
