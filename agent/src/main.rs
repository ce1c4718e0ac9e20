//! The `workspace-agent` binary: parse the command line, hand over, turn the result into an exit
//! code.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use workspace_agent::{
    cli::{Cli, Command},
    client, server,
};
use workspace_common::report;

/// Exit code of a client whose own work failed, as opposed to the command's (as docker and ssh do).
const OWN_FAILURE: u8 = 125;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(args) => server::serve(&args),
        client => client::run(client),
    };
    result.unwrap_or_else(|error| {
        // Nothing is left to tell when standard error is closed.
        writeln!(std::io::stderr(), "workspace-agent: {}", report::one_line(error.as_ref())).ok();
        ExitCode::from(OWN_FAILURE)
    })
}
