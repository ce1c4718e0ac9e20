//! The HTTP face of commands by their ids, `/v1/processes`: start, list, show, read, signal, resize,
//! attach, end. What they are is decided in [`crate::supervise`]; their standard input is
//! [`crate::exec::feed`].

mod attach;
mod control;
mod session;

use std::{sync::Arc, time::Duration};

use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use workspace_common::linger::Received;
use workspace_common::{
    body::{Body, collect_limited},
    presence::Presence,
    problem::Problem,
};

use crate::{
    exec::{
        self, ExecContext, MAX_REQUEST_BYTES, form, internal, json_response, method_not_allowed,
        query::{EndQuery, OutputQuery, StartQuery, none},
        refused,
        reply::{self, Fields},
        request::{Face, parse},
        stream, unread,
    },
    supervise::{
        output::Stream,
        process::{Process, State},
        reader::{From, Reader},
    },
};

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
    /// `/v1/processes/{id}/resize`
    Resize(&'a str),
    /// `/v1/processes/{id}/attach`
    Attach(&'a str),
}

/// Answers one call.
///
/// # Errors
/// 404 for an id that no command has, 400 for a request that makes no sense, and whatever starting a
/// command can come to.
pub async fn handle(
    context: &Arc<ExecContext>,
    call: Call<'_>,
    request: Request<Received>,
) -> Result<Response<Body>, Problem> {
    let method = request.method();
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let posts = *method == Method::POST;
    match call {
        Call::All if posts => start(context, request).await,
        Call::All if reads => list(context, &request),
        Call::All => Ok(method_not_allowed("GET, HEAD, POST")),
        Call::One(id) if *method == Method::DELETE => end(context, id, &request).await,
        Call::One(id) if reads => show(context, id, &request),
        Call::One(_) => Ok(method_not_allowed("GET, HEAD, DELETE")),
        Call::Output(id) if reads => read(context, id, &request),
        Call::Output(_) => Ok(method_not_allowed("GET, HEAD")),
        Call::Signal(id) if posts => control::signal(find(context, id)?, request).await,
        Call::Resize(id) if posts => control::resize(&*find(context, id)?, request).await,
        Call::Signal(_) | Call::Resize(_) => Ok(method_not_allowed("POST")),
        Call::Attach(id) if *method == Method::GET => {
            attach::upgrade(context.engine.drain(), find(context, id)?, request)
        }
        Call::Attach(_) => Ok(method_not_allowed("GET")),
    }
}

fn find(context: &ExecContext, id: &str) -> Result<Arc<Process>, Problem> {
    context.engine.table().get(id).ok_or_else(|| {
        let detail = format!("no process '{id}': it was never started, or is forgotten by now");
        Problem::new(StatusCode::NOT_FOUND, "no_such_process", detail)
    })
}

async fn start(
    context: &ExecContext,
    request: Request<Received>,
) -> Result<Response<Body>, Problem> {
    let query = StartQuery::parse(request.uri().query())?;
    let body = collect_limited(request.into_body(), MAX_REQUEST_BYTES).await.map_err(unread)?;
    let command = parse(&body, Face::Detached, query, &context.defaults)?;
    let start = context.engine.detach(command).map_err(|refusal| refused(&refusal))?;
    Ok(exec::started(&start))
}

fn list(context: &ExecContext, request: &Request<Received>) -> Result<Response<Body>, Problem> {
    none(request.uri().query())?;
    let processes = context.engine.table().list();
    let shown: Value = processes.iter().map(|process| Value::Object(fields(process))).collect();
    Ok(json_response(&json!({"processes": shown})))
}

fn show(
    context: &ExecContext,
    id: &str,
    request: &Request<Received>,
) -> Result<Response<Body>, Problem> {
    none(request.uri().query())?;
    Ok(json_response(&Value::Object(fields(&*find(context, id)?))))
}

/// What is shown of a command: of its arguments none, which may hold secrets.
fn fields(process: &Process) -> Fields {
    let (state, ending) = match process.state() {
        State::Running => ("running", Fields::new()),
        State::Ended(outcome) => ("ended", reply::ending(&outcome)),
        State::Lost => ("lost", Fields::new()),
    };
    let mut fields = reply::started(process);
    fields.extend(ending);
    fields.extend(reply::written(process));
    let started_at = humantime::format_rfc3339_millis(process.started_at).to_string();
    fields.extend([
        ("argv0".into(), process.argv0.as_str().into()),
        ("state".into(), state.into()),
        ("tty".into(), process.has_terminal().into()),
        ("attached".into(), process.attached().into()),
        ("started_at".into(), started_at.into()),
    ]);
    fields
}

fn read(
    context: &ExecContext,
    id: &str,
    request: &Request<Received>,
) -> Result<Response<Body>, Problem> {
    let OutputQuery { from, follow } = OutputQuery::parse(request.uri().query())?;
    let encoding = form::of_output(request.headers())?;
    let process = find(context, id)?;
    check_offsets(&process, from)?;
    let reader =
        if follow { Reader::following(process, from) } else { Reader::of_now(process, from) };
    let client = (None, Presence::of(request.extensions()).require());
    Ok(stream::answer(reader, from, encoding, None, client))
}

/// Refuses offsets that nothing has been written to yet.
fn check_offsets(process: &Process, from: From) -> Result<(), Problem> {
    for (name, stream, from) in
        [("stdout_from", Stream::Stdout, from.stdout), ("stderr_from", Stream::Stderr, from.stderr)]
    {
        let written = process.output().written(stream);
        if from > written {
            let detail = format!("{name} is {from}, and only {written} bytes have been written");
            return Err(Problem::bad_request("out_of_range", detail));
        }
    }
    Ok(())
}

async fn end(
    context: &ExecContext,
    id: &str,
    request: &Request<Received>,
) -> Result<Response<Body>, Problem> {
    let query = EndQuery::parse(request.uri().query())?;
    let process = find(context, id)?;
    let grace = query.grace_ms.map(Duration::from_millis);
    let sweep = process.end(grace).await.map_err(|error| {
        tracing::error!(%error, id, "the task that ended a command failed");
        internal()
    })?;
    let survivors = sweep.survivors.len();
    let mut answer = json!({"killed": sweep.killed, "survivors": survivors});
    if survivors > 0
        && let Some(answer) = answer.as_object_mut()
    {
        answer.insert("unkillable".into(), reply::survivors(&sweep.survivors));
    }
    Ok(json_response(&answer))
}
