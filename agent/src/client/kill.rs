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
use crate::files::path::printable;

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
    #[serde(default)]
    unkillable: Vec<Survivor>,
}

/// A process that the kernel did not end.
#[derive(Deserialize)]
struct Survivor {
    pid: i32,
    name: String,
}

/// Whom a signal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The command and everything it started.
    Tree,
    /// The command itself.
    Leader,
}

/// Runs the subcommand and prints its result.
///
/// # Errors
/// When the agent cannot be reached or refuses.
pub async fn run(client: &Client, args: &KillArgs) -> Result<ExitCode, Failure> {
    let request = match &args.signal {
        Some(signal) => {
            let name = format!("SIG{}", signal.strip_prefix("SIG").unwrap_or(signal));
            let scope = if args.leader { Scope::Leader } else { Scope::Tree };
            signal_request(&args.id, &name, scope)
        }
        None => end_request(&args.id),
    };
    let answer = expect_success(client.request_apart(request).await?).await?;
    let content = collect_limited(answer.into_body(), MAX_ANSWER).await?;
    if args.signal.is_some() {
        let Signalled { signalled } = serde_json::from_slice(&content)?;
        writeln!(io::stdout(), "signalled {signalled}")?;
        return Ok(ExitCode::SUCCESS);
    }
    print_end(&serde_json::from_slice(&content)?, &mut io::stdout().lock())
}

fn print_end(ended: &Ended, output: &mut impl Write) -> Result<ExitCode, Failure> {
    let Ended { killed, survivors, unkillable } = ended;
    writeln!(output, "killed {killed}, survivors {survivors}")?;
    for Survivor { pid, name } in unkillable {
        writeln!(output, "not ended: {pid} {}", printable(name.as_bytes()))?;
    }
    Ok(if *survivors == 0 { ExitCode::SUCCESS } else { ExitCode::from(SURVIVORS) })
}

/// Asks for the end of a command and of everything it started.
pub(super) fn end_request(id: &str) -> Request<Body> {
    let mut request = Request::new(body::empty());
    *request.method_mut() = Method::DELETE;
    *request.uri_mut() = format!("/v1/processes/{id}").parse().unwrap_or_default();
    request
}

/// Asks for a signal, named as in `SIGTERM`.
pub(super) fn signal_request(id: &str, name: &str, scope: Scope) -> Request<Body> {
    let scope = match scope {
        Scope::Tree => "tree",
        Scope::Leader => "leader",
    };
    let mut request = Request::new(body::json(&json!({"signal": name, "scope": scope})));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = format!("/v1/processes/{id}/signal").parse().unwrap_or_default();
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, json);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(answer: &str) -> (String, bool) {
        let mut output = Vec::new();
        let code = print_end(&serde_json::from_str(answer).unwrap(), &mut output).unwrap();
        (String::from_utf8(output).unwrap(), format!("{code:?}").contains("(0)"))
    }

    #[test]
    fn survivors_are_named() {
        let older = r#"{"killed":2,"survivors":0}"#;
        assert_eq!(printed(older), ("killed 2, survivors 0\n".to_owned(), true));
        let stuck = r#"{"killed":2,"survivors":1,"unkillable":[{"pid":7,"name":"dd\u001b"}]}"#;
        let expected = "killed 2, survivors 1\nnot ended: 7 dd\\u{1b}\n";
        assert_eq!(printed(stuck), (expected.to_owned(), false));
    }
}
