//! `kill`: ends a detached command with everything it started, or signals it.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use http::{HeaderValue, Method, Request, header};
use serde::Deserialize;
use serde_json::json;
use workspace_common::{
    body::{self, Body, collect_limited},
    client::Client,
};

use super::{
    failure::{Failure, expect_success},
    logs::parse_id,
};

/// Longest answer that is read.
const MAX_ANSWER: usize = 64 * 1024;
/// Some processes could not be ended.
const SURVIVORS: u8 = 3;

/// End a detached command and everything it started, or signal it
#[derive(Debug, Clone, Args)]
pub struct KillArgs {
    /// Send this signal and no more, as in SIGHUP or HUP
    #[arg(long, value_name = "SIGNAL")]
    pub signal: Option<String>,
    /// Signal only the command itself, not what it started
    #[arg(long, requires = "signal")]
    pub leader: bool,
    /// The command's id
    #[arg(value_parser = parse_id)]
    pub id: String,
}

#[derive(Deserialize)]
struct Signalled {
    signalled: u64,
}

#[derive(Deserialize)]
struct Ended {
    killed: u64,
    survivors: u64,
}

/// Runs the subcommand and prints its result.
///
/// # Errors
/// When the agent cannot be reached or refuses.
pub async fn run(client: &Client, args: &KillArgs) -> Result<ExitCode, Failure> {
    let answer = expect_success(client.request_apart(request(args)).await?).await?;
    let content = collect_limited(answer.into_body(), MAX_ANSWER).await?;
    if args.signal.is_some() {
        let Signalled { signalled } = serde_json::from_slice(&content)?;
        writeln!(io::stdout(), "signalled {signalled}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let Ended { killed, survivors } = serde_json::from_slice(&content)?;
    writeln!(io::stdout(), "killed {killed}, survivors {survivors}")?;
    Ok(if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::from(SURVIVORS) })
}

fn request(args: &KillArgs) -> Request<Body> {
    let path = format!("/v1/processes/{}", args.id);
    let Some(signal) = &args.signal else {
        let mut request = Request::new(body::empty());
        *request.method_mut() = Method::DELETE;
        *request.uri_mut() = path.parse().unwrap_or_default();
        return request;
    };
    let name = format!("SIG{}", signal.strip_prefix("SIG").unwrap_or(signal));
    let scope = if args.leader { "leader" } else { "tree" };
    let mut request = Request::new(body::json(&json!({"signal": name, "scope": scope})));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = format!("{path}/signal").parse().unwrap_or_default();
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, json);
    request
}
