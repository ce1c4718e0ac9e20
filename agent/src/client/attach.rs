//! `attach`: joins a command that runs, as if it had been started here.

mod keys;
pub(super) mod session;
pub(super) mod socket;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use workspace_common::client::Client;

use self::session::{Input, Left};
use super::{
    failure::{Failure, Fate},
    logs::parse_id,
    output::Output,
    signals::Signals,
};

/// Join a command that runs; Ctrl-P Ctrl-Q leaves its terminal again
#[derive(Debug, Clone, Args)]
pub struct AttachArgs {
    /// Pass no input on
    #[arg(short = 'n', long)]
    pub no_stdin: bool,
    /// The command's id
    #[arg(value_parser = parse_id)]
    pub id: String,
}

/// Runs the subcommand. Signals end this program and not the command.
///
/// # Errors
/// When the agent cannot be reached or refuses, or the connection breaks.
pub async fn run(client: &Client, args: &AttachArgs) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        code = converse(client, args) => code,
        caught = signals.next() => Ok(caught.exit_code()),
    }
}

async fn converse(client: &Client, args: &AttachArgs) -> Result<ExitCode, Failure> {
    let connection = socket::connect(client, &args.id, None, Fate::RunsOn).await?;
    let input = if args.no_stdin { Input::None } else { Input::WithDetachKeys };
    match session::run(connection, input, Output::standard()).await? {
        Left::Exited(exit) => Ok(exit.code()),
        Left::Detached => {
            writeln!(io::stderr(), "\nworkspace-agent: detached from {}", args.id)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
