//! The HTTP face of commands that a caller waits for: `POST /v1/exec`, answered whole as JSON or as a
//! stream of events, and `POST /v1/processes/{id}/stdin` for an open standard input.

mod document;
pub mod event;
pub(crate) mod form;
pub mod frame;
mod kept;
pub(crate) mod query;
pub(crate) mod reply;
pub mod request;
pub mod signal;
pub(crate) mod stream;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use workspace_common::linger::Received;
use workspace_common::{
    body::{self, Body, BodyError, collect_limited},
    presence::{Presence, Required},
    problem::Problem,
};

use self::{
    form::Form,
    query::StartQuery,
    request::{Defaults, Face},
};
use crate::supervise::{
    Engine, Refusal, Start,
    process::{Attachment, Process, State},
    reader::{From, Reader},
    spawn::StartError,
};

/// The largest body of `POST /v1/exec`. Larger input goes through an open standard input.
pub(crate) const MAX_REQUEST_BYTES: usize = 16 << 20;

/// What the calls about commands need.
#[derive(Debug)]
pub struct ExecContext {
    /// Starts the commands and knows them.
    pub engine: Engine,
    /// What requests leave out.
    pub defaults: Defaults,
}

/// Answers `POST /v1/exec`.
///
/// # Errors
/// 400 for a request that makes no sense, 406, 409 for an id of another command, 413, 422 for a
/// command that cannot start, 429 and 503 for an agent that takes no more.
pub async fn run(
    context: &Arc<ExecContext>,
    request: Request<Received>,
) -> Result<Response<Body>, Problem> {
    if request.method() != Method::POST {
        return Ok(method_not_allowed("POST"));
    }
    let form = form::of_exec(request.headers())?;
    let query = StartQuery::parse(request.uri().query())?;
    let face = match form {
        Form::Buffered => Face::Buffered,
        Form::Stream(_) => Face::Streamed,
    };
    let presence = Presence::of(request.extensions());
    let body = collect_limited(request.into_body(), MAX_REQUEST_BYTES).await.map_err(unread)?;
    let command = request::parse(&body, face, query, &context.defaults)?;
    let attached = context.engine.attach(command).map_err(|refusal| refused(&refusal))?;
    let (start, attachment) = attached;
    let required = presence.require();
    let process = start.process().clone();
    match form {
        Form::Buffered => buffered(process, (attachment, required)).await,
        Form::Stream(encoding) => {
            let mut first = reply::started(&process);
            first.insert("event".into(), "started".into());
            let reader = Reader::following(process, From::default()).seated();
            let first = Some(Value::Object(first));
            let client = (Some(attachment), required);
            Ok(stream::answer(reader, From::default(), encoding, first, client))
        }
    }
}

/// Waits for the end. The client's going drops this, and the attachment with it.
async fn buffered(
    process: Arc<Process>,
    client: (Attachment, Required),
) -> Result<Response<Body>, Problem> {
    process.run_freely();
    let state = process.ended().await;
    drop(client);
    match state {
        State::Ended(outcome) => Ok(document::answer(process, &outcome)),
        State::Running | State::Lost => Err(internal()),
    }
}

/// What a start is answered with in a call that does not wait for the end.
pub(crate) fn started(start: &Start) -> Response<Body> {
    let mut response = json_response(&Value::Object(reply::started(start.process())));
    *response.status_mut() = match start {
        Start::New(_) => StatusCode::CREATED,
        Start::Repeated(_) => StatusCode::OK,
    };
    response
}

pub(crate) fn unread(error: BodyError) -> Problem {
    match error {
        BodyError::TooLarge(limit) => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            format!("the request is larger than {limit} bytes; use stdin_open for large input"),
        ),
        BodyError::Failed(error) => {
            Problem::bad_request("body_cut", format!("the request ended early: {error}"))
        }
    }
}

/// What a command that did not start is answered: never an invented exit code.
pub(crate) fn refused(refusal: &Refusal) -> Problem {
    let (status, code) = match refusal {
        Refusal::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        Refusal::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, "too_many_processes"),
        Refusal::InUse(_) => (StatusCode::CONFLICT, "id_in_use"),
        Refusal::Reserved(_) => (StatusCode::BAD_REQUEST, "bad_id"),
        Refusal::Spool(_) => (StatusCode::INSUFFICIENT_STORAGE, "spool_failed"),
        Refusal::Start(error) => (StatusCode::UNPROCESSABLE_ENTITY, start_code(error)),
    };
    Problem::new(status, code, refusal.to_string())
}

fn start_code(error: &StartError) -> &'static str {
    match error {
        StartError::CommandNotFound { .. } => "command_not_found",
        StartError::PermissionDenied(_) => "permission_denied",
        StartError::ExecFormat(_) => "exec_format_error",
        StartError::BadInterpreter(_) => "bad_interpreter",
        StartError::BadCwd { .. } => "bad_cwd",
        StartError::TooLarge => "arguments_too_large",
        StartError::NoTerminal(_) => "no_terminal",
        StartError::Exhausted(_) => "no_resources",
        StartError::Io { .. } => "start_failed",
    }
}

pub(crate) fn internal() -> Problem {
    let detail = "the agent lost the command; this is a fault of the agent";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
}

pub(crate) fn json_response(content: &Value) -> Response<Body> {
    json_type(Response::new(body::json(content)))
}

/// The same for a body that is JSON already.
fn json_type(mut response: Response<Body>) -> Response<Body> {
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// What a method that a path does not know is answered; `allowed` as the header `Allow` has it.
pub(crate) fn method_not_allowed(allowed: &'static str) -> Response<Body> {
    let detail = format!("only {allowed} is allowed here");
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
    let mut response = problem.response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Answers `POST /v1/processes/{id}/stdin[?eof=true]`: passes the body on as fast as the command
/// reads it.
///
/// # Errors
/// 404 when no such command has an open standard input; 409 when it closed it meanwhile.
pub async fn feed(
    context: &ExecContext,
    id: &str,
    request: Request<Received>,
) -> Result<Response<Body>, Problem> {
    if request.method() != Method::POST {
        return Ok(method_not_allowed("POST"));
    }
    let eof = match request.uri().query() {
        None | Some("eof=false") => false,
        Some("eof=true") => true,
        Some(other) => {
            let detail = format!("'{other}' is not understood: only eof=true is");
            return Err(Problem::bad_request("bad_query", detail));
        }
    };
    let process = context.engine.table().get(id).ok_or_else(|| no_stdin(id))?;
    let sender = process.stdin().ok_or_else(|| no_stdin(id))?;
    let presence = Presence::of(request.extensions());
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| unread(BodyError::Failed(error.into())))?;
        let data = frame.into_data().unwrap_or_else(|_trailers| Bytes::new());
        // What has come is passed on, but a command that does not read keeps no connection of a
        // client that has gone.
        let _required = presence.require();
        if !data.is_empty() && sender.send(data).await.is_err() {
            let detail = format!("command '{id}' has closed its standard input");
            return Err(Problem::new(StatusCode::CONFLICT, "stdin_closed", detail));
        }
    }
    if eof {
        process.close_stdin().await;
    }
    Ok(json_response(&json!({"eof": eof})))
}

fn no_stdin(id: &str) -> Problem {
    let detail = format!("no running command '{id}' has an open standard input");
    Problem::new(StatusCode::NOT_FOUND, "no_such_stdin", detail)
}
