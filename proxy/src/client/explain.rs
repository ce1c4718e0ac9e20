//! `explain --connect`: asks a running proxy what its policy decides.

use std::io::Write;
use std::process::ExitCode;

use http::Method;
use serde_json::json;
use workspace_common::body;
use workspace_common::client::{Client, Endpoint};
use workspace_common::token::BearerToken;

use super::{CommandError, Form, Reply, exchange, finish};
use crate::cli::ExplainArgs;
use crate::explain::DENIED;

/// Runs `explain` against the proxy at `connect`. The answer is JSON, as without a proxy.
pub async fn explain<O: Write, E: Write>(
    args: &ExplainArgs,
    connect: Endpoint,
    out: &mut O,
    err: &mut E,
) -> ExitCode {
    let reply = ask(args, connect).await;
    let denied = reply.as_ref().is_ok_and(|reply| {
        reply.content.get("decision").is_some_and(|decision| decision == "deny")
    });
    let code = finish(reply.map(|reply| (reply, Form::Json)), |_reply| String::new(), out, err);
    if denied && code == ExitCode::SUCCESS { ExitCode::from(DENIED) } else { code }
}

async fn ask(args: &ExplainArgs, connect: Endpoint) -> Result<Reply, CommandError> {
    let token = args.admin_token_file.as_deref().map(BearerToken::load).transpose()?;
    let client = Client::new(connect, token);
    let question = json!({ "method": args.method, "url": args.url, "resolve": args.resolve });
    let content = body::full(question.to_string());
    exchange(&client, Method::POST, "/explain", None, content).await
}
