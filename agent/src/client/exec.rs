//! `exec`: runs a command in the workspace as if it ran here. Standard input, output, error and
//! signals are passed through, and the command's exit code becomes ours, as a shell would give it.
//! With a terminal it is `interactive`.

mod feed;
mod interactive;
pub mod limit;
mod request;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, ValueEnum};
use http::StatusCode;
use workspace_common::client::Client;

use self::{
    feed::feed,
    limit::{Limit, parse_limit},
    request::Form,
};
use super::{
    ending::not_started,
    event::{Limits, Told},
    failure::{Failure, Fate, expect_success},
    logs::parse_id,
    output::{End, Output},
    reply::Reply,
    signals::Signals,
};
use crate::cli::parse_variable;

/// Run a command in the workspace
#[derive(Debug, Clone, Args)]
pub struct ExecArgs {
    /// Variable for the command's environment; repeat for several
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = parse_variable)]
    pub env: Vec<(String, String)>,
    /// Directory to start in, relative to the workspace's root
    #[arg(short = 'w', long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// End the command and everything it started after this time (exit code 124)
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub timeout: Option<Duration>,
    /// Give the command a terminal of its own, and every key of ours
    #[arg(short, long)]
    pub tty: bool,
    /// Pass standard input on, which is what happens anyway
    #[arg(short, long, conflicts_with = "no_stdin")]
    pub interactive: bool,
    /// Give the command no standard input, for use in loops that read their own
    #[arg(short = 'n', long)]
    pub no_stdin: bool,
    /// The command is one string for the workspace's shell
    #[arg(short = 'c', long)]
    pub shell: bool,
    /// Name the command; the same command again under its name joins it
    #[arg(long, value_name = "ID", value_parser = parse_id)]
    pub id: Option<String>,
    /// Resource limit of the command; repeat for several
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_limit)]
    pub limit: Vec<Limit>,
    /// What becomes of the command when this connection goes [default: kill]
    #[arg(long, value_name = "WHAT", value_enum)]
    pub on_disconnect: Option<OnDisconnect>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// What becomes of a command whose last client goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnDisconnect {
    /// It ends with everything it started
    Kill,
    /// It runs on
    Keep,
}

impl ExecArgs {
    /// What becomes of the command if the connection breaks.
    fn fate(&self) -> Fate {
        match self.on_disconnect {
            Some(OnDisconnect::Keep) => Fate::RunsOn,
            Some(OnDisconnect::Kill) | None => Fate::Ended,
        }
    }
}

/// A command that runs.
struct Running {
    id: String,
    limits: Limits,
    reply: Reply,
}

/// Runs the subcommand.
///
/// # Errors
/// When the agent cannot be reached or refuses, or the reply breaks off.
pub async fn run(client: &Client, args: &ExecArgs) -> Result<ExitCode, Failure> {
    if args.tty {
        return interactive::run(client, args).await;
    }
    let mut signals = Signals::listen()?;
    let begun = tokio::select! {
        begun = begin(client, args) => begun,
        // Nobody to pass it on to yet.
        caught = signals.next() => return Ok(caught.exit_code()),
    };
    let mut running = match begun {
        Ok(running) => running,
        Err(refused) => return not_started(refused),
    };
    tokio::select! {
        code = follow(&mut running.reply, &running.limits) => code,
        unreadable = feed(client, &running.id), if !args.no_stdin => Err(Failure::Input(unreadable)),
        caught = signals.forward(client, &running.id) => Ok(caught.exit_code()),
    }
}

/// Starts the command, with frames where the agent knows them.
async fn begin(client: &Client, args: &ExecArgs) -> Result<Running, Failure> {
    let answer = expect_success(client.request_apart(request::attached(args, Form::Frames)).await?);
    let answer = match answer.await {
        Err(Failure::Refused { status: StatusCode::NOT_ACCEPTABLE, .. }) => {
            let request = request::attached(args, Form::Lines);
            expect_success(client.request_apart(request).await?).await?
        }
        answer => answer?,
    };
    let mut reply = Reply::new(answer, args.fate());
    match reply.next().await? {
        Told::Started { id, limits } => Ok(Running { id, limits, reply }),
        _ => Err(Failure::Lost("the reply does not begin with a start".to_owned())),
    }
}

/// Passes output on until the command has ended.
async fn follow(reply: &mut Reply, limits: &Limits) -> Result<ExitCode, Failure> {
    let mut output = Output::standard();
    output.note_limits(limits).await?;
    loop {
        if let Some(End::Exited(exit)) = output.take(reply.next().await?).await? {
            return Ok(exit.code());
        }
    }
}
