//! The HTTP face of commands: `POST /v1/exec`, answered whole as JSON or line by line as NDJSON,
//! and `POST /v1/processes/{id}/stdin` for commands that asked for an open standard input.

pub mod event;
pub mod frame;
pub mod output;
pub mod request;
mod stream;

use std::{os::unix::process::ExitStatusExt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use workspace_common::{
    body::{self, Body, BodyError, collect_limited},
    problem::Problem,
};

use self::{
    output::{HeadTail, Kept},
    request::{Defaults, ExecRequest},
};
use crate::supervise::{
    Engine, Refusal, Running,
    spawn::StartError,
    table::Table,
    task::{Outcome, OutputSink, Outputs},
};

/// The largest body of `POST /v1/exec`. Larger input goes through an open standard input.
pub(crate) const MAX_REQUEST_BYTES: usize = 16 << 20;
/// The media type of a streamed reply.
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// What the calls about commands need.
#[derive(Debug)]
pub struct ExecContext {
    /// Starts the commands.
    pub engine: Engine,
    /// Those that were started detached.
    pub table: Arc<Table>,
    /// What requests leave out.
    pub defaults: Defaults,
}

/// The forms in which a command's output is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Buffered,
    Lines,
}

/// Answers `POST /v1/exec`.
///
/// # Errors
/// 400 for a request that makes no sense, 406, 413, 422 for a command that cannot start, 429 and
/// 503 for an agent that takes no more.
pub async fn run(
    context: &Arc<ExecContext>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    if request.method() != Method::POST {
        return Ok(method_not_allowed("POST"));
    }
    let form = form(request.headers())?;
    let body = collect_limited(request.into_body(), MAX_REQUEST_BYTES).await.map_err(unread)?;
    let request = request::parse(&body, &context.defaults)?;
    match form {
        Form::Buffered => buffered(context, request).await,
        Form::Lines => stream::answer(context, request),
    }
}

fn form(headers: &HeaderMap) -> Result<Form, Problem> {
    let Some(accept) = headers.get(header::ACCEPT) else { return Ok(Form::Buffered) };
    let accept = accept.to_str().unwrap_or_default();
    let types = accept.split(',').map(|range| range.split(';').next().unwrap_or_default().trim());
    for wanted in types {
        match wanted {
            NDJSON => return Ok(Form::Lines),
            "application/json" | "application/*" | "*/*" => return Ok(Form::Buffered),
            _ => {}
        }
    }
    let detail = format!("'{accept}' is not offered here: accept application/json or {NDJSON}");
    Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", detail))
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

async fn buffered(
    context: &Arc<ExecContext>,
    request: ExecRequest,
) -> Result<Response<Body>, Problem> {
    let limit = request.max_output_bytes;
    let outputs = Outputs { stdout: HeadTail::new(limit), stderr: HeadTail::new(limit) };
    let running = start(context, request, outputs)?;
    let (id, pid) = (running.id.clone(), running.pid);
    let (outcome, outputs) = running.wait().await.map_err(|error| internal(&error))?;
    let mut reply = outcome_fields(&id, pid, &outcome);
    put_output(&mut reply, "stdout", outputs.stdout.finish());
    put_output(&mut reply, "stderr", outputs.stderr.finish());
    Ok(json_response(&Value::Object(reply)))
}

fn put_output(reply: &mut Map<String, Value>, name: &str, kept: Kept) {
    let gap = kept.gap.map_or(Value::Null, |(from, to)| json!({"from": from, "to": to}));
    reply.insert(format!("{name}_truncated"), kept.gap.is_some().into());
    reply.insert(format!("{name}_gap"), gap);
    reply.insert(format!("{name}_bytes"), kept.total.into());
    reply.insert(format!("{name}_encoding"), kept.encoding.into());
    reply.insert(name.to_owned(), kept.text.into());
}

fn start<W: OutputSink>(
    context: &ExecContext,
    request: ExecRequest,
    outputs: Outputs<W>,
) -> Result<Running<W>, Problem> {
    context.engine.start(request.command, outputs).map_err(|refusal| refused(&refusal))
}

/// What a command that did not start is answered: never an invented exit code.
pub(crate) fn refused(refusal: &Refusal) -> Problem {
    let (status, code) = match refusal {
        Refusal::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        Refusal::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, "too_many_processes"),
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
        StartError::Exhausted(_) => "no_resources",
        StartError::Io { .. } => "start_failed",
    }
}

pub(crate) fn internal(error: &tokio::task::JoinError) -> Problem {
    tracing::error!(%error, "the task that owned a command failed");
    let detail = "the agent lost the command; this is a fault of the agent";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
}

/// What both forms of the reply say about the end.
pub(crate) fn outcome_fields(id: &str, pid: i32, outcome: &Outcome) -> Map<String, Value> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let ended = outcome.ended.as_ref();
    let usage = ended.map(|ended| {
        json!({
            "user_ms": millis(ended.user),
            "system_ms": millis(ended.system),
            "max_rss_bytes": ended.max_rss_bytes,
        })
    });
    Map::from_iter([
        ("id".into(), id.into()),
        ("pid".into(), pid.into()),
        ("exit_code".into(), ended.and_then(|ended| ended.status.code()).into()),
        ("signal".into(), ended.and_then(|ended| ended.status.signal()).map(signal_name).into()),
        ("timed_out".into(), outcome.timed_out().into()),
        ("duration_ms".into(), millis(outcome.duration).into()),
        ("usage".into(), usage.into()),
        ("left_running".into(), outcome.left_running.into()),
    ])
}

/// The names of the signals from 1, as signal(7) has them, without `SIG`.
const SIGNAL_NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// What the API calls a signal: `SIGKILL`; numbers without a name stay numbers.
fn signal_name(number: i32) -> String {
    usize::try_from(number - 1)
        .ok()
        .and_then(|index| SIGNAL_NAMES.get(index))
        .map_or_else(|| number.to_string(), |name| format!("SIG{name}"))
}

/// The number of a signal as [`signal_name`] writes it.
pub(crate) fn signal_number(name: &str) -> Option<u8> {
    let Some(short) = name.strip_prefix("SIG") else { return name.parse().ok() };
    let index = SIGNAL_NAMES.iter().position(|known| *known == short)?;
    u8::try_from(index + 1).ok()
}

pub(crate) fn json_response(content: &Value) -> Response<Body> {
    let mut response = Response::new(body::json(content));
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
    request: Request<Incoming>,
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
    let sender = context.engine.stdin(id).ok_or_else(|| no_stdin(id))?;
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| unread(BodyError::Failed(error.into())))?;
        let data = frame.into_data().unwrap_or_else(|_trailers| Bytes::new());
        if !data.is_empty() && sender.send(data).await.is_err() {
            let detail = format!("command '{id}' has closed its standard input");
            return Err(Problem::new(StatusCode::CONFLICT, "stdin_closed", detail));
        }
    }
    if eof {
        context.engine.close_stdin(id);
    }
    Ok(json_response(&json!({"eof": eof})))
}

fn no_stdin(id: &str) -> Problem {
    let detail = format!("no running command '{id}' has an open standard input");
    Problem::new(StatusCode::NOT_FOUND, "no_such_stdin", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(value: &'static str) -> Result<Form, Problem> {
        form(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))]))
    }

    #[test]
    fn the_form_follows_the_accept_header() {
        assert_eq!(form(&HeaderMap::new()), Ok(Form::Buffered));
        assert_eq!(accepting("*/*"), Ok(Form::Buffered));
        assert_eq!(accepting("application/json; q=1"), Ok(Form::Buffered));
        assert_eq!(accepting("application/x-ndjson, */*"), Ok(Form::Lines));
        assert_eq!(accepting("text/html").unwrap_err().status, 406);
    }

    #[test]
    fn signals_have_names() {
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(31), "SIGSYS");
        assert_eq!(signal_name(35), "35");
        for number in [1_u8, 9, 31, 35, 64] {
            assert_eq!(signal_number(&signal_name(i32::from(number))), Some(number));
        }
        assert_eq!(signal_number("SIGNONE"), None);
    }
}
