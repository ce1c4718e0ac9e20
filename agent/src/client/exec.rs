//! `exec`: runs a command in the workspace as if it ran here. Standard input, output and error are
//! passed through, and the command's exit code becomes ours, as a shell would give it.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::BytesMut;
use clap::Args;
use futures_util::TryStreamExt;
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::Deserialize;
use serde_json::json;
use tokio_util::io::ReaderStream;
use workspace_common::{
    body::{self, Body, BoxError},
    client::Client,
};

use super::failure::{Failure, expect_success};
use crate::{cli::parse_variable, exec::signal};

/// A shell's exit code for a command that is not there.
const NOT_FOUND: u8 = 127;
/// A shell's exit code for a command that may not or cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// The exit code of timeout(1) for a command that took too long.
const TIMED_OUT: u8 = 124;
/// The longest event line that is read.
const MAX_LINE: usize = 16 << 20;
/// Size of one read from standard input.
const STDIN_CHUNK: usize = 256 * 1024;

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
    /// Give the command no standard input, for use in loops that read their own
    #[arg(short = 'n', long)]
    pub no_stdin: bool,
    /// The command is one string for the workspace's shell
    #[arg(short = 'c', long)]
    pub shell: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// An event of the reply, as far as it matters here.
#[derive(Deserialize)]
pub(super) struct Event {
    pub(super) event: String,
    id: Option<String>,
    data: Option<String>,
    data_base64: Option<String>,
    exit_code: Option<u8>,
    signal: Option<String>,
    timed_out: Option<bool>,
    pub(super) detail: Option<String>,
    pub(super) from: Option<u64>,
    pub(super) to: Option<u64>,
}

/// Runs the subcommand.
///
/// # Errors
/// When the agent cannot be reached or refuses, or the reply breaks off.
pub async fn run(client: &Client, args: &ExecArgs) -> Result<ExitCode, Failure> {
    let reply = client.request_apart(request(args)).await?;
    let reply = match expect_success(reply).await {
        Ok(reply) => reply,
        Err(refused) => return start_failure(refused),
    };
    follow(client, args, reply.into_body()).await
}

fn request(args: &ExecArgs) -> Request<Body> {
    let env: BTreeMap<_, _> = args.env.iter().cloned().collect();
    let timeout = args.timeout.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let shell = args.shell.then(|| args.command.join(" "));
    let argv = (!args.shell).then(|| args.command.clone());
    let content = json!({
        "argv": argv,
        "shell": shell,
        "cwd": args.workdir.as_ref().map(|dir| dir.to_string_lossy()),
        "env": env,
        "stdin_open": !args.no_stdin,
        "timeout_ms": timeout,
    });
    let mut request = Request::new(body::json(&content));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static("/v1/exec");
    let headers = request.headers_mut();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request
}

/// A command that did not start ends as a shell would end it; other refusals are errors.
fn start_failure(refused: Failure) -> Result<ExitCode, Failure> {
    let code = match &refused {
        Failure::Refused { code, .. } => match code.as_str() {
            "command_not_found" => NOT_FOUND,
            "permission_denied" | "exec_format_error" | "bad_interpreter" => NOT_EXECUTABLE,
            _ => return Err(refused),
        },
        _ => return Err(refused),
    };
    writeln!(io::stderr(), "workspace-agent: {refused}")?;
    Ok(ExitCode::from(code))
}

/// Passes output on until the command has ended.
async fn follow(
    client: &Client,
    args: &ExecArgs,
    mut reply: Incoming,
) -> Result<ExitCode, Failure> {
    let mut lines = Lines::default();
    let mut feeding = None;
    loop {
        let event = tokio::select! {
            event = lines.next(&mut reply) => event?,
            fed = async { match feeding.as_mut() {
                Some(feed) => std::pin::Pin::as_mut(feed).await,
                None => std::future::pending::<io::Result<()>>().await,
            } } => { fed.map_err(Failure::Input)?; feeding = None; continue }
        };
        match event.event.as_str() {
            "started" if !args.no_stdin => {
                let id = event.id.unwrap_or_default();
                feeding = Some(Box::pin(feed(client, id)));
            }
            "stdout" => pass(&event, &mut io::stdout())?,
            "stderr" => pass(&event, &mut io::stderr())?,
            "exited" => return Ok(exit_code(&event)),
            "error" => return Err(Failure::Lost(event.detail.unwrap_or_default())),
            _ => {}
        }
    }
}

pub(super) fn pass(event: &Event, to: &mut dyn Write) -> Result<(), Failure> {
    if let Some(text) = &event.data {
        to.write_all(text.as_bytes())?;
    }
    if let Some(text) = &event.data_base64 {
        let bytes = STANDARD.decode(text).map_err(|error| Failure::Lost(error.to_string()))?;
        to.write_all(&bytes)?;
    }
    Ok(to.flush()?)
}

fn exit_code(event: &Event) -> ExitCode {
    if event.timed_out == Some(true) {
        return ExitCode::from(TIMED_OUT);
    }
    let signal = event.signal.as_deref().and_then(signal::number);
    let code = event.exit_code.or_else(|| signal.map(|number| 128_u8.saturating_add(number)));
    ExitCode::from(code.unwrap_or(1))
}

/// Uploads our standard input to its end. A command that ends or stops reading first is its own
/// business; input that cannot be read is not: the command would wait for its end for ever.
async fn feed(client: &Client, id: String) -> io::Result<()> {
    let unreadable = Arc::new(Mutex::new(None));
    let noted = unreadable.clone();
    let stdin = ReaderStream::with_capacity(tokio::io::stdin(), STDIN_CHUNK)
        .map_ok(Frame::data)
        .map_err(move |error| -> BoxError {
            *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            "standard input cannot be read".into()
        });
    let mut request = Request::new(StreamBody::new(stdin).boxed_unsync());
    *request.method_mut() = Method::POST;
    let Ok(uri) = format!("/v1/processes/{id}/stdin?eof=true").parse() else { return Ok(()) };
    *request.uri_mut() = uri;
    if let Err(error) = client.request_apart(request).await {
        tracing::debug!(%error, "standard input was not read to its end");
    }
    unreadable.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
}

/// Splits a body into events.
#[derive(Default)]
pub(super) struct Lines {
    buffer: BytesMut,
    searched: usize,
}

impl Lines {
    /// The next event. Safe to cancel: what has come is kept.
    pub(super) async fn next(&mut self, body: &mut Incoming) -> Result<Event, Failure> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(serde_json::from_slice(&line)?);
            }
            if self.buffer.len() > MAX_LINE {
                return Err(Failure::Lost("an event is too long".to_owned()));
            }
            let Some(frame) = body.frame().await else { return Err(Failure::CutShort) };
            let frame = frame.map_err(|_error| Failure::CutShort)?;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    fn take_line(&mut self) -> Option<BytesMut> {
        let fresh = self.buffer.get(self.searched..)?;
        match fresh.iter().position(|byte| *byte == b'\n') {
            Some(at) => {
                let line = self.buffer.split_to(self.searched + at + 1);
                self.searched = 0;
                Some(line)
            }
            None => {
                self.searched = self.buffer.len();
                None
            }
        }
    }
}
