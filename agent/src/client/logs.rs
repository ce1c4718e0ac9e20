//! `logs`: the output of a detached command, on our own standard output and error. Following it
//! outlives the connection: what came is not asked for again, and what is lost is said.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use http::{HeaderValue, Request, header};
use tokio::time::sleep;
use workspace_common::{
    body::{self, Body},
    client::Client,
};

use super::{
    failure::{Failure, Fate, expect_success},
    output::{Output, Place},
    reply::Reply,
};
use crate::{exec::frame::FRAMES, supervise::process::ChosenId};

/// Print the output of a detached command
#[derive(Debug, Clone, Args)]
pub struct LogsArgs {
    /// Go on until the command has ended
    #[arg(short, long)]
    pub follow: bool,
    /// The command's id
    #[arg(value_parser = parse_id)]
    pub id: String,
}

/// Takes text that can be an id, and so part of a path.
///
/// # Errors
/// When it cannot.
pub fn parse_id(text: &str) -> Result<String, String> {
    let known = ChosenId::parse(text.to_owned()).map(|_id| text.to_owned());
    known.ok_or_else(|| "an id is 1 to 64 of A-Z a-z 0-9 . _ -".to_owned())
}

/// Runs the subcommand.
///
/// # Errors
/// When the agent cannot be reached or refuses, or its answer breaks off and cannot be gone on with.
pub async fn run(client: &Client, args: &LogsArgs) -> Result<ExitCode, Failure> {
    let mut output = Output::standard();
    let mut pauses = Pauses::default();
    let mut reply = open(client, args, Place::default()).await?;
    loop {
        let before = output.place();
        let Err(failure) = print(&mut reply, &mut output).await else {
            return Ok(ExitCode::SUCCESS);
        };
        if output.place() != before {
            pauses = Pauses::default();
        }
        reply = reopen(client, args, output.place(), &mut pauses, failure).await?;
    }
}

/// Goes on from `place` after `failure`, if that was the connection's.
async fn reopen(
    client: &Client,
    args: &LogsArgs,
    place: Place,
    pauses: &mut Pauses,
    mut failure: Failure,
) -> Result<Reply, Failure> {
    while args.follow && failure.is_of_the_connection() {
        let Some(pause) = pauses.next() else { break };
        sleep(pause).await;
        match open(client, args, place).await {
            Ok(reply) => return Ok(reply),
            Err(another) => failure = another,
        }
    }
    Err(failure)
}

async fn open(client: &Client, args: &LogsArgs, from: Place) -> Result<Reply, Failure> {
    let answer = client.request_apart(request(args, from)).await?;
    Ok(Reply::new(expect_success(answer).await?, Fate::RunsOn))
}

fn request(args: &LogsArgs, from: Place) -> Request<Body> {
    let mut request = Request::new(body::empty());
    let Place { stdout, stderr } = from;
    let target = format!(
        "/v1/processes/{}/output?stdout_from={stdout}&stderr_from={stderr}&follow={}",
        args.id, args.follow
    );
    *request.uri_mut() = target.parse().unwrap_or_default();
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(FRAMES));
    request
}

/// Prints to the last event.
async fn print(reply: &mut Reply, output: &mut Output) -> Result<(), Failure> {
    while output.take(reply.next().await?).await?.is_none() {}
    Ok(())
}

/// How long to wait before each try: half a minute together, for an agent that is not away for good.
struct Pauses {
    next: Duration,
    left: u32,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: Duration::from_millis(100), left: 12 }
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let doubled = (self.next * 2).min(Duration::from_secs(4));
        Some(std::mem::replace(&mut self.next, doubled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_bounded_and_slow_down() {
        let pauses: Vec<Duration> = Pauses::default().collect();
        assert_eq!(pauses.len(), 12);
        assert!(pauses.is_sorted());
        let whole: Duration = pauses.iter().sum();
        assert!((20..40).contains(&whole.as_secs()), "{whole:?}");
    }
}
