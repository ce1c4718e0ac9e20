//! `check-policy` and `explain`: what the policy says, without a socket or a lookup.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use http::{HeaderValue, Method, Request, header};
use serde_json::json;
use thiserror::Error;

use crate::classify::{Routes, Target, classify};
use crate::cli::ExplainArgs;
use crate::config::{ConfigError, Settings};
use crate::policy::{self, Access, Permit, Policy, Question};
use crate::refusal::Refusal;

/// Exit code for a request that would be refused. 1 is for errors.
const DENIED: u8 = 3;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ExplainError {
    /// The policy cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The method is none.
    #[error("'{0}' is not a method")]
    Method(String),
    /// The URL is none.
    #[error("'{0}' is not a URL, and not HOST:PORT either")]
    Url(String),
    /// The standard output is closed.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
}

/// Reads a policy file and prints what it holds.
///
/// # Errors
/// Names what is wrong with the file.
pub fn check_policy(file: &Path) -> Result<ExitCode, ExplainError> {
    let settings = Settings::load(Some(file), &[], "")?;
    print(&json!({
        "status": "ok",
        "allow_rules": settings.policy.allow_count(),
        "deny_rules": settings.policy.deny_count(),
    }))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the decision about one request.
///
/// # Errors
/// When the policy, the method or the URL is malformed. A denial is an answer, not an error.
pub fn explain(args: &ExplainArgs) -> Result<ExitCode, ExplainError> {
    let sources = &args.policy;
    let settings =
        Settings::load(sources.policy.as_deref(), &sources.allow, &sources.domain_whitelist)?;
    let request = request(args)?;
    let verdict = decide(&settings.policy, request);
    print(&match &verdict {
        Ok(permit) => json!({
            "decision": "allow",
            "rule": **permit.rule(),
            "note": "the addresses of the host are judged when it is connected to",
        }),
        Err(refusal) => json!({
            "decision": "deny",
            "code": refusal.code(),
            "detail": refusal.detail(),
        }),
    })?;
    Ok(if verdict.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(DENIED) })
}

fn request(args: &ExplainArgs) -> Result<Request<()>, ExplainError> {
    let method = Method::from_bytes(args.method.as_bytes())
        .map_err(|_ignored| ExplainError::Method(args.method.clone()))?;
    let bad_url = || ExplainError::Url(args.url.clone());
    let mut request = Request::builder()
        .method(method)
        .uri(args.url.as_str())
        .body(())
        .map_err(|_ignored| bad_url())?;
    let authority = request.uri().authority().ok_or_else(bad_url)?;
    let host = HeaderValue::try_from(authority.as_str()).map_err(|_ignored| bad_url())?;
    request.headers_mut().insert(header::HOST, host);
    Ok(request)
}

fn decide(policy: &Policy, request: Request<()>) -> Result<Permit, Refusal> {
    let (head, ()) = request.into_parts();
    match classify(&head, Routes::default())? {
        Target::Connect(at) => {
            policy::decide(policy, &Question { at: &at, access: Access::Tunnel, request: None })
        }
        Target::Forward(forward) => {
            let access = Access::Forward(forward.scheme);
            let request = Some((&head.method, forward.path()));
            policy::decide(policy, &Question { at: &forward.at, access, request })
        }
        Target::Mcp(_) | Target::Bedrock(_) => Err(Refusal::UnknownRoute),
    }
}

fn print(answer: &serde_json::Value) -> io::Result<()> {
    writeln!(io::stdout(), "{answer}")
}

/// Reports what ends the program.
pub fn complain(error: &dyn Display) {
    // With the standard error output closed there is nobody left to tell.
    let _told: io::Result<()> = writeln!(io::stderr(), "workspace-proxy: {error}");
}
