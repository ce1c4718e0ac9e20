//! The `workspace-agent` binary: parse the command line, hand over, turn the result into an exit
//! code.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use workspace_agent::{
    cli::{Cli, Command},
    client, server,
    supervise::launcher,
};
use workspace_common::report;

/// Exit code of a client whose own work failed, as opposed to the command's (as docker and ssh do).
const OWN_FAILURE: u8 = 125;

/// What a shell reports of a program that wrote into a closed pipe: 128 and SIGPIPE.
const BROKEN_PIPE: u8 = 141;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == launcher::ARGUMENT) {
        return launcher::run(arguments);
    }
    let result = match Cli::parse().command {
        Command::Serve(args) => server::serve(&args),
        client => client::run(client),
    };
    result.unwrap_or_else(|error| {
        if is_broken_pipe(&error) {
            return ExitCode::from(BROKEN_PIPE);
        }
        // Nothing is left to tell when standard error is closed.
        writeln!(std::io::stderr(), "workspace-agent: {}", report::one_line(error.as_ref())).ok();
        ExitCode::from(OWN_FAILURE)
    })
}

/// Whether our own reader has gone, as in `workspace-agent exec -- yes | head -1`: no failure to tell.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(client::failure::Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe
    )
}
