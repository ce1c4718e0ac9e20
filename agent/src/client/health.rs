//! `health`: one request, one exit code, for HEALTHCHECK in images without curl.

use std::{io::Write, process::ExitCode, time::Duration};

use clap::Args;
use http::Request;
use tokio::time::timeout;
use workspace_common::{body, client::Client};

use super::failure::{Failure, expect_success};

/// Ask whether the agent answers
#[derive(Debug, Clone, Args)]
pub struct HealthArgs {
    /// Ask whether it takes work, too: it does not while it is stopping
    #[arg(long)]
    pub ready: bool,
    /// How long to wait for the answer
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

/// Runs the subcommand.
///
/// # Errors
/// When no answer comes in time, or it is not a good one.
pub async fn run(client: &Client, args: &HealthArgs) -> Result<ExitCode, Failure> {
    let mut request = Request::new(body::empty());
    let path = if args.ready { "/readyz" } else { "/health" };
    *request.uri_mut() = http::Uri::from_static(path);
    let answer = timeout(args.timeout, client.request_apart(request)).await;
    let answer = answer.map_err(|_elapsed| Failure::Silent { waited: args.timeout })??;
    expect_success(answer).await?;
    writeln!(std::io::stdout(), "ok")?;
    Ok(ExitCode::SUCCESS)
}
