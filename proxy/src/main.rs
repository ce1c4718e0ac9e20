//! The `workspace-proxy` program: parses the command line and runs what it says.

use std::process::ExitCode;

use clap::Parser as _;
use workspace_proxy::cli::{Cli, Command};
use workspace_proxy::{explain, server};

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            explain::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => {
            workspace_common::logging::init(args.logs.log_format, &args.logs.log_level)
                .map_err(anyhow::Error::msg)?;
            server::run(&args)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::CheckPolicy { file } => Ok(explain::check_policy(&file)?),
        Command::Explain(args) => Ok(explain::explain(&args)?),
    }
}
