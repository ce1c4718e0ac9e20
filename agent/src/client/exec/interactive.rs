//! `exec -t`: a command with a terminal, joined to ours. It is started as a detached one that ends
//! with its last client, and then attached to from its first byte.

use std::{process::ExitCode, time::Duration};

use serde::Deserialize;
use tokio::time::timeout;
use workspace_common::{body::collect_limited, client::Client};

use super::{ExecArgs, request};
use crate::client::{
    attach::{
        session::{self, Input, Left},
        socket,
    },
    ending::not_started,
    event::Limits,
    failure::{Failure, Fate, expect_success},
    kill,
    output::Output,
    signals::Signals,
    terminal::Size,
};

/// Longest answer to a start that is read.
const MAX_ANSWER: usize = 64 * 1024;
/// How long to try to end a command that cannot be attached to.
const PATIENCE: Duration = Duration::from_secs(5);

/// The answer to a start.
#[derive(Deserialize)]
struct Started {
    id: String,
    #[serde(default)]
    limits: Limits,
}

/// Runs the command. Signals end this program, and with it the command: its own come as keys.
///
/// # Errors
/// When the agent cannot be reached or refuses, or the connection breaks.
pub(super) async fn run(client: &Client, args: &ExecArgs) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        code = converse(client, args) => code,
        caught = signals.next() => Ok(caught.exit_code()),
    }
}

async fn converse(client: &Client, args: &ExecArgs) -> Result<ExitCode, Failure> {
    let size = Size::of_ours().unwrap_or(Size::DEFAULT);
    let request = request::with_terminal(args, size, std::env::var("TERM").ok());
    let answer = match expect_success(client.request_apart(request).await?).await {
        Ok(answer) => answer,
        Err(refused) => return not_started(refused),
    };
    let content = collect_limited(answer.into_body(), MAX_ANSWER).await?;
    let Started { id, limits } = serde_json::from_slice(&content)?;
    let mut output = Output::standard();
    output.note_limits(&limits).await?;
    let connection = match socket::connect(client, &id, Some(0), args.fate()).await {
        Ok(connection) => connection,
        Err(failure) => {
            give_up(client, &id, args.fate()).await;
            return Err(failure);
        }
    };
    let input = if args.no_stdin { Input::None } else { Input::Standard };
    match session::run(connection, input, output).await? {
        Left::Exited(exit) => Ok(exit.code()),
        // Without keys for it nobody detaches.
        Left::Detached => Ok(ExitCode::SUCCESS),
    }
}

/// Ends a command that was to end with us and that we never came to.
async fn give_up(client: &Client, id: &str, fate: Fate) {
    if fate == Fate::RunsOn {
        return;
    }
    if timeout(PATIENCE, client.request_apart(kill::end_request(id))).await.is_err() {
        tracing::debug!(id, "the command was not ended in time");
    }
}
