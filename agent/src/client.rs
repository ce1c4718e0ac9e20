//! The command line as a client of an agent: one module a subcommand, and what they
//! share.
//!
//! Nothing here decides anything about the workspace; the agent at the other end does.

pub mod attach;
mod delta;
mod ending;
pub(crate) mod event;
pub mod exec;
pub mod failure;
pub mod get;
pub mod health;
pub mod kill;
pub mod list;
pub mod logs;
pub mod merge;
mod output;
mod patience;
mod plan;
pub mod progress;
pub mod ps;
pub mod pull;
pub mod push;
pub mod put;
mod reply;
mod signals;
mod terminal;
pub mod tree;
pub mod watch;

use std::process::ExitCode;

use clap::Args;
use workspace_common::{client::Client, token::BearerToken};

use crate::cli::{self, Command};

#[cfg(test)]
mod tests;

/// Runs a client subcommand to its end.
///
/// # Errors
/// When the agent cannot be reached, refuses, or the work fails on this side.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    // One thread for the connection: what blocks has threads of its own, and to start more costs a
    // short command a part of its time.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(dispatch(command));
    // A thread that waits for our standard input must not hold the end up.
    runtime.shutdown_background();
    code
}

async fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => crate::server::serve(&args),
        Command::Exec(c) => Ok(exec::run(&client(&c)?, &c.args).await?),
        Command::Attach(c) => Ok(attach::run(&client(&c)?, &c.args).await?),
        Command::Ps(c) => Ok(ps::run(&client(&c)?, &c.args).await?),
        Command::Logs(c) => Ok(logs::run(&client(&c)?, &c.args).await?),
        Command::Kill(c) => Ok(kill::run(&client(&c)?, &c.args).await?),
        Command::Push(c) => Ok(push::run(&client(&c)?, &c.args).await?),
        Command::Pull(c) => Ok(pull::run(&client(&c)?, &c.args).await?),
        Command::Put(c) => Ok(put::run(&client(&c)?, &c.args).await?),
        Command::Get(c) => Ok(get::run(&client(&c)?, &c.args).await?),
        Command::Ls(c) => Ok(list::run(&client(&c)?, &c.args).await?),
        Command::Watch(c) => Ok(watch::run(&client(&c)?, &c.args).await?),
        Command::Health(c) => Ok(health::run(&client(&c)?, &c.args).await?),
    }
}

fn client<T: Args>(command: &cli::Client<T>) -> anyhow::Result<Client> {
    let token = command.token_file.as_deref().map(BearerToken::load).transpose()?;
    Ok(Client::new(command.connect.clone(), token))
}
