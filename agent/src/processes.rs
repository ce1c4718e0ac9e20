//! The HTTP face of detached commands, `/v1/processes`: start, list, show, read, signal, end. What
//! they are is decided in [`crate::supervise::table`] and
//! [`crate::supervise::process`]; their standard input is [`crate::exec::feed`].

mod output;
mod query;

use std::{sync::Arc, time::Duration};

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use workspace_common::{
    body::{Body, collect_limited},
    problem::Problem,
};

use self::query::{EndQuery, OutputQuery, none};
use crate::{
    exec::{
        ExecContext, MAX_REQUEST_BYTES, internal, json_response, method_not_allowed,
        outcome_fields, refused, request::parse_detached, signal_number, unread,
    },
    supervise::{
        process::{Process, State, Stream},
        table::{Start, StartRefusal},
    },
};

/// The longest body of `POST …/signal`.
const MAX_SIGNAL_BYTES: usize = 4096;

/// What a path below `/v1/processes` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call<'a> {
    /// `/v1/processes`
    All,
    /// `/v1/processes/{id}`
    One(&'a str),
    /// `/v1/processes/{id}/output`
    Output(&'a str),
    /// `/v1/processes/{id}/signal`
    Signal(&'a str),
}

/// Answers one call.
///
/// # Errors
/// 404 for an id that no command has, 400 for a request that makes no sense, and whatever starting a
/// command can come to.
pub async fn handle(
    context: &Arc<ExecContext>,
    call: Call<'_>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let method = request.method();
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match call {
        Call::All if *method == Method::POST => start(context, request).await,
        Call::All if reads => list(context, &request),
        Call::All => Ok(method_not_allowed("GET, HEAD, POST")),
        Call::One(id) if *method == Method::DELETE => end(context, id, &request).await,
        Call::One(id) if reads => show(context, id, &request),
        Call::One(_) => Ok(method_not_allowed("GET, HEAD, DELETE")),
        Call::Output(id) if reads => read(context, id, &request),
        Call::Output(_) => Ok(method_not_allowed("GET, HEAD")),
        Call::Signal(id) if *method == Method::POST => signal(context, id, request).await,
        Call::Signal(_) => Ok(method_not_allowed("POST")),
    }
}

fn find(context: &ExecContext, id: &str) -> Result<Arc<Process>, Problem> {
    context.table.get(id).ok_or_else(|| {
        let detail = format!("no process '{id}': it was never started, or is forgotten by now");
        Problem::new(StatusCode::NOT_FOUND, "no_such_process", detail)
    })
}

async fn start(
    context: &ExecContext,
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    none(request.uri().query())?;
    let body = collect_limited(request.into_body(), MAX_REQUEST_BYTES).await.map_err(unread)?;
    let detached = parse_detached(&body, &context.defaults)?;
    let started = context.table.run(&context.engine, detached);
    let (status, process) = match started.map_err(|refusal| not_started(&refusal))? {
        Start::New(process) => (StatusCode::CREATED, process),
        Start::Repeated(process) => (StatusCode::OK, process),
    };
    let mut response = json_response(&json!({"id": process.id, "pid": process.pid}));
    *response.status_mut() = status;
    Ok(response)
}

fn not_started(refusal: &StartRefusal) -> Problem {
    let detail = refusal.to_string();
    match refusal {
        StartRefusal::InUse(_) => Problem::new(StatusCode::CONFLICT, "id_in_use", detail),
        StartRefusal::Reserved(_) => Problem::bad_request("bad_id", detail),
        StartRefusal::Refused(refusal) => refused(refusal),
    }
}

fn list(context: &ExecContext, request: &Request<Incoming>) -> Result<Response<Body>, Problem> {
    none(request.uri().query())?;
    let processes = context.table.list();
    let shown = processes.iter().map(|process| Value::Object(fields(process)));
    Ok(json_response(&json!({"processes": shown.collect::<Vec<_>>()})))
}

fn show(
    context: &ExecContext,
    id: &str,
    request: &Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    none(request.uri().query())?;
    Ok(json_response(&Value::Object(fields(&*find(context, id)?))))
}

/// What is shown of a command: of its arguments none, which may hold secrets.
fn fields(process: &Process) -> Map<String, Value> {
    let (state, outcome) = match process.state() {
        State::Running => ("running", None),
        State::Ended(outcome) => ("ended", Some(outcome)),
        State::Lost => ("lost", None),
    };
    let mut fields = outcome
        .map(|outcome| outcome_fields(&process.id, process.pid, &outcome))
        .unwrap_or_default();
    fields.extend([
        ("id".into(), process.id.as_str().into()),
        ("pid".into(), process.pid.into()),
        ("argv0".into(), process.argv0.as_str().into()),
        ("state".into(), state.into()),
        ("started_at".into(), timestamp(process).into()),
        ("stdout_bytes".into(), process.written(Stream::Stdout).into()),
        ("stderr_bytes".into(), process.written(Stream::Stderr).into()),
    ]);
    fields
}

fn timestamp(process: &Process) -> String {
    humantime::format_rfc3339_millis(process.started_at).to_string()
}

fn read(
    context: &ExecContext,
    id: &str,
    request: &Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let query = OutputQuery::parse(request.uri().query())?;
    output::answer(find(context, id)?, &query)
}

/// The body of `POST …/signal`, as written by the caller.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    signal: String,
    #[serde(default)]
    scope: Scope,
}

/// Whom a signal goes to.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scope {
    #[default]
    Tree,
    Leader,
}

async fn signal(
    context: &ExecContext,
    id: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    none(request.uri().query())?;
    let process = find(context, id)?;
    let body = collect_limited(request.into_body(), MAX_SIGNAL_BYTES).await.map_err(unread)?;
    let wire: Wire = serde_json::from_slice(&body).map_err(|error| {
        Problem::bad_request("bad_json", format!("the body is no signal: {error}"))
    })?;
    let signal = parse_signal(&wire.signal)?;
    let signalled = match wire.scope {
        Scope::Tree => process.signal_tree(signal),
        Scope::Leader => usize::from(process.signal_leader(signal)),
    };
    Ok(json_response(&json!({"signalled": signalled})))
}

fn parse_signal(name: &str) -> Result<Signal, Problem> {
    let number = signal_number(name).filter(|_| name.starts_with("SIG"));
    number.and_then(|number| Signal::from_named_raw(number.into())).ok_or_else(|| {
        let detail = "signal must be a name such as SIGTERM, SIGINT, SIGKILL (signal(7))";
        Problem::bad_request("bad_signal", detail)
    })
}

async fn end(
    context: &ExecContext,
    id: &str,
    request: &Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let query = EndQuery::parse(request.uri().query())?;
    let process = find(context, id)?;
    let grace = query.grace_ms.map(Duration::from_millis);
    let sweep = process.end(grace).await.map_err(|error| internal(&error))?;
    Ok(json_response(&json!({"killed": sweep.killed, "survivors": sweep.survivors})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_go_by_their_names() {
        assert_eq!(parse_signal("SIGTERM").unwrap(), Signal::TERM);
        for name in ["", "TERM", "15", "0", "SIG", "SIGNONE", "SIGSIGTERM"] {
            assert_eq!(parse_signal(name).unwrap_err().code, "bad_signal", "{name}");
        }
    }
}
