//! `logs`: the output of a detached command, on our own standard output and error.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use http::Request;
use workspace_common::{body, client::Client};

use super::{
    exec::{Lines, pass},
    failure::{Failure, expect_success},
};
use crate::supervise::process::ChosenId;

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
/// When the agent cannot be reached or refuses, or its answer breaks off.
pub async fn run(client: &Client, args: &LogsArgs) -> Result<ExitCode, Failure> {
    let mut request = Request::new(body::empty());
    let target = format!("/v1/processes/{}/output?follow={}", args.id, args.follow);
    *request.uri_mut() = target.parse().unwrap_or_default();
    let mut reply = expect_success(client.request_apart(request).await?).await?.into_body();
    let mut lines = Lines::default();
    loop {
        let event = lines.next(&mut reply).await.map_err(|failure| match failure {
            Failure::CutShort => Failure::Lost("the connection broke; it may run on".to_owned()),
            other => other,
        })?;
        match event.event.as_str() {
            "stdout" => pass(&event, &mut io::stdout())?,
            "stderr" => pass(&event, &mut io::stderr())?,
            "gap" => {
                let (from, to) = (event.from.unwrap_or_default(), event.to.unwrap_or_default());
                let lost = to.saturating_sub(from);
                writeln!(io::stderr(), "workspace-agent: {lost} bytes are kept no more")?;
            }
            "exited" | "open" => return Ok(ExitCode::SUCCESS),
            "error" => return Err(Failure::Lost(event.detail.unwrap_or_default())),
            _ => {}
        }
    }
}
