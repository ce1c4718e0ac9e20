//! The `workspace-proxy` program: parses the command line and runs what it says.

use std::future::Future;
use std::io;
use std::process::ExitCode;

use clap::Parser as _;
use workspace_proxy::cli::{Cli, Command};
use workspace_proxy::{client, explain, server};

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
        Command::Explain(args) => match args.connect.clone() {
            None => Ok(explain::explain(&args)?),
            Some(connect) => {
                let (out, err) = (&mut io::stdout(), &mut io::stderr());
                block_on(client::explain::explain(&args, connect, out, err))
            }
        },
        Command::Rules(args) => block_on(client::rules(args, &mut io::stdout(), &mut io::stderr())),
        Command::Health(args) => {
            block_on(client::health(args, &mut io::stdout(), &mut io::stderr()))
        }
    }
}

/// The client commands make one request; a thread is enough.
fn block_on(task: impl Future<Output = ExitCode>) -> anyhow::Result<ExitCode> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(task))
}
