//! What is asked for when a command is to start.

use bytes::Bytes;

use super::{
    output::Keeping,
    process::{ChosenId, OnDisconnect},
    spawn::CommandSpec,
    task::Ending,
};

/// A command to run.
#[derive(Debug)]
pub struct Request {
    /// The id, if the client chose one, and a digest of everything that it asked for: a repeat has
    /// the same.
    pub id: Option<(ChosenId, [u8; 32])>,
    /// What to start. Its environment gets the marker of the command in front.
    pub spec: CommandSpec,
    /// What standard input is. It has to fit the specification.
    pub stdin: Stdin,
    /// When and how to end it.
    pub ending: Ending,
    /// What becomes of it when its last attached client goes.
    pub on_disconnect: OnDisconnect,
    /// How its output is kept.
    pub keeping: Keeping,
}

/// Where a command's standard input comes from.
#[derive(Debug)]
pub enum Stdin {
    /// It is empty.
    Null,
    /// These bytes, then the end.
    Bytes(Bytes),
    /// Whatever [`stdin`](super::process::Process::stdin) is handed, until it is closed.
    Open,
}
