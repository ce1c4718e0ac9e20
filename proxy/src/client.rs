//! The command lines that talk to a running proxy: `rules get|put|clear`, `health`, and `explain` with
//! `--connect`.
//!
//! They are clients of the management listener and share no state with the proxy. What is asked for
//! goes to standard output, everything else to standard error.
//!
//! Exit codes: 0 done, 1 refused or not ready, 2 the proxy could not be reached or answered nonsense,
//! 3 a local file cannot be used.

pub mod explain;
mod report;

use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::header::{CONTENT_TYPE, IF_MATCH};
use http::{HeaderValue, Method, Request, StatusCode};
use serde_json::Value;
use thiserror::Error;
use workspace_common::body::{self, Body, BodyError};
use workspace_common::client::{Client, ClientError, Endpoint};
use workspace_common::token::{BearerToken, TokenError};

/// Answers of the management listener are small; a view of 256 rules has some 100 kB.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// Largest document that is sent; the proxy takes 1 MiB.
const MAX_DOCUMENT: u64 = 4 * 1024 * 1024;

/// Where the management listener is.
#[derive(Args, Clone, Debug)]
pub struct Connection {
    /// Management listener of the proxy: unix:/path or http://HOST:PORT
    #[arg(
        long,
        global = true,
        env = "WORKSPACE_PROXY_CONNECT",
        default_value = "http://127.0.0.1:9090"
    )]
    pub connect: Endpoint,
}

/// Manage the rules of a running proxy.
#[derive(Args, Clone, Debug)]
pub struct RulesArgs {
    #[command(flatten)]
    connection: Connection,
    /// File with the management token
    #[arg(long, global = true, env = "WORKSPACE_PROXY_ADMIN_TOKEN_FILE")]
    admin_token_file: Option<PathBuf>,
    #[command(subcommand)]
    command: RulesCommand,
}

/// What to do with the rules.
#[derive(Clone, Debug, Subcommand)]
pub enum RulesCommand {
    /// Show the rules in force: names, origins and header names, never values
    Get {
        /// Print the answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// Replace all rules by those of a document
    Put {
        /// The document; - reads standard input
        file: PathBuf,
        /// Replace only this revision, as `rules get` showed it
        #[arg(long)]
        if_match: Option<String>,
        /// Print the answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove all rules
    Clear {
        /// Clear only this revision, as `rules get` showed it
        #[arg(long)]
        if_match: Option<String>,
        /// Print the answer as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Ask a running proxy whether it can do its work.
#[derive(Args, Clone, Debug)]
pub struct HealthArgs {
    #[command(flatten)]
    connection: Connection,
    /// Ask only whether the process answers
    #[arg(long)]
    live: bool,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// Why a command line has nothing to print.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The proxy cannot be reached.
    #[error("{0}; is the proxy running, and is --connect its management listener?")]
    Client(#[from] ClientError),
    /// The token file cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The document cannot be read.
    #[error("cannot read {path}: {source}")]
    Document {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The document is larger than any proxy takes.
    #[error("{0} is larger than a rules document can be")]
    DocumentTooLarge(PathBuf),
    /// A revision that cannot stand in a header.
    #[error("'{0}' is not a revision; write it as 'rules get' shows it")]
    Revision(String),
    /// The answer broke off or is too long.
    #[error("the answer cannot be read: {0}")]
    Answer(#[from] BodyError),
    /// The answer is no JSON; something else listens there.
    #[error("the answer (HTTP {0}) is not one of a workspace-proxy; check --connect")]
    Foreign(StatusCode),
    /// Standard output is closed.
    #[error("cannot write the answer: {0}")]
    Output(#[source] io::Error),
}

impl CommandError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Client(_) | Self::Answer(_) | Self::Foreign(_) | Self::Output(_) => {
                ExitCode::from(2)
            }
            Self::Token(_)
            | Self::Document { .. }
            | Self::DocumentTooLarge(_)
            | Self::Revision(_) => ExitCode::from(3),
        }
    }
}

/// What the proxy said.
struct Reply {
    status: StatusCode,
    content: Value,
}

/// How an answer is printed.
#[derive(Clone, Copy)]
enum Form {
    People,
    Json,
}

impl Form {
    const fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::People }
    }
}

/// Runs `rules …` and prints to `out` and `err`.
pub async fn rules<O: Write, E: Write>(args: RulesArgs, out: &mut O, err: &mut E) -> ExitCode {
    let outcome = ask_rules(args).await;
    finish(outcome, report::rules, out, err)
}

/// Runs `health` and prints to `out` and `err`.
pub async fn health<O: Write, E: Write>(args: HealthArgs, out: &mut O, err: &mut E) -> ExitCode {
    let path = if args.live { "/healthz" } else { "/readyz" };
    let client = Client::new(args.connection.connect, None);
    let reply = exchange(&client, Method::GET, path, None, body::empty()).await;
    finish(reply.map(|reply| (reply, Form::of(args.json))), report::health, out, err)
}

async fn ask_rules(args: RulesArgs) -> Result<(Reply, Form), CommandError> {
    let token = args.admin_token_file.as_deref().map(BearerToken::load).transpose()?;
    let client = Client::new(args.connection.connect, token);
    let (method, revision, content, json) = match args.command {
        RulesCommand::Get { json } => (Method::GET, None, body::empty(), json),
        RulesCommand::Put { file, if_match, json } => {
            (Method::PUT, if_match, body::full(read_document(&file)?), json)
        }
        RulesCommand::Clear { if_match, json } => (Method::DELETE, if_match, body::empty(), json),
    };
    let reply = exchange(&client, method, "/rules", revision, content).await?;
    Ok((reply, Form::of(json)))
}

async fn exchange(
    client: &Client,
    method: Method,
    path: &'static str,
    revision: Option<String>,
    content: Body,
) -> Result<Reply, CommandError> {
    let mut request = Request::new(content);
    *request.method_mut() = method;
    *request.uri_mut() = http::Uri::from_static(path);
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(revision) = revision {
        let tag = HeaderValue::try_from(format!("\"{}\"", revision.trim_matches('"')));
        request
            .headers_mut()
            .insert(IF_MATCH, tag.map_err(|_bad| CommandError::Revision(revision))?);
    }
    let response = client.request(request).await?;
    let status = response.status();
    let content = body::collect_limited(response.into_body(), MAX_ANSWER).await?;
    let content =
        serde_json::from_slice(&content).map_err(|_no_json| CommandError::Foreign(status))?;
    Ok(Reply { status, content })
}

fn read_document(path: &Path) -> Result<Vec<u8>, CommandError> {
    let unreadable = |source| CommandError::Document { path: path.to_owned(), source };
    let mut content = Vec::new();
    let limit = MAX_DOCUMENT + 1;
    let read = if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut content)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut content))
    };
    let length = read.map_err(unreadable)?;
    if u64::try_from(length).unwrap_or(u64::MAX) > MAX_DOCUMENT {
        return Err(CommandError::DocumentTooLarge(path.to_owned()));
    }
    Ok(content)
}

fn finish<O: Write, E: Write>(
    outcome: Result<(Reply, Form), CommandError>,
    report: fn(&Reply) -> String,
    out: &mut O,
    err: &mut E,
) -> ExitCode {
    let printed = outcome.and_then(|(reply, form)| {
        print(&reply, form, report, out, err).map_err(CommandError::Output)?;
        Ok(if reply.status.is_success() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    });
    printed.unwrap_or_else(|error| {
        // With standard error gone too, the exit code is all that is left to say.
        let _unwritten = writeln!(err, "workspace-proxy: {error}");
        error.exit_code()
    })
}

fn print<O: Write, E: Write>(
    reply: &Reply,
    form: Form,
    report: fn(&Reply) -> String,
    out: &mut O,
    err: &mut E,
) -> io::Result<()> {
    match form {
        Form::Json => writeln!(out, "{}", reply.content),
        Form::People if reply.status.is_success() => write!(out, "{}", report(reply)),
        Form::People => write!(err, "{}", report(reply)),
    }
}

#[cfg(test)]
mod tests;
