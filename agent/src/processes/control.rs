//! What is done to a command while it runs: signals, and the size of its terminal.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use rustix::process::Signal;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use workspace_common::linger::Received;
use workspace_common::{
    body::{Body, collect_limited},
    problem::Problem,
};

use crate::{
    exec::{json_response, query::none, request::size, signal, unread},
    supervise::process::{Process, State},
};

/// The longest body of these calls.
const MAX_BYTES: usize = 4096;

/// A signal, as written by the caller.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireSignal {
    signal: String,
    #[serde(default)]
    scope: Scope,
}

/// Whom a signal goes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Scope {
    #[default]
    Tree,
    Leader,
}

impl WireSignal {
    /// A signal by its parts.
    pub(super) fn new(signal: String, scope: Option<Scope>) -> Self {
        Self { signal, scope: scope.unwrap_or_default() }
    }

    /// Sends it, and says to how many processes.
    pub(super) async fn send(&self, process: &Process) -> Result<usize, Problem> {
        let signal = parse_signal(&self.signal)?;
        Ok(match self.scope {
            Scope::Tree => process.signal_tree(signal).await,
            Scope::Leader => usize::from(process.signal_leader(signal)),
        })
    }
}

/// The size of a terminal, as written by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireSize {
    rows: u16,
    cols: u16,
}

impl WireSize {
    /// Gives the terminal this size.
    pub(super) fn apply(self, process: &Process) -> Result<(), Problem> {
        let size = size(self.rows, self.cols)?;
        if !process.has_terminal() {
            let detail = format!("process '{}' was started without a terminal (tty)", process.id);
            return Err(Problem::new(StatusCode::CONFLICT, "no_tty", detail));
        }
        match process.resize(size) {
            Ok(true) if matches!(process.state(), State::Running) => Ok(()),
            Ok(_) => {
                let detail =
                    format!("process '{}' has ended, and its terminal with it", process.id);
                Err(Problem::new(StatusCode::CONFLICT, "not_running", detail))
            }
            Err(error) => {
                let detail = format!("the kernel refused the size: {error}");
                Err(Problem::bad_request("out_of_range", detail))
            }
        }
    }
}

/// Answers `POST …/signal`.
pub(super) async fn signal(
    process: Arc<Process>,
    request: Request<Received>,
) -> Result<Response<Body>, Problem> {
    let wire: WireSignal = body(request, "signal").await?;
    let signalled = wire.send(&process).await?;
    Ok(json_response(&json!({"signalled": signalled})))
}

/// Answers `POST …/resize`.
pub(super) async fn resize(
    process: &Process,
    request: Request<Received>,
) -> Result<Response<Body>, Problem> {
    let wire: WireSize = body(request, "size").await?;
    wire.apply(process)?;
    Ok(json_response(&json!({"rows": wire.rows, "cols": wire.cols})))
}

async fn body<T: DeserializeOwned>(request: Request<Received>, what: &str) -> Result<T, Problem> {
    none(request.uri().query())?;
    let body = collect_limited(request.into_body(), MAX_BYTES).await.map_err(unread)?;
    serde_json::from_slice(&body).map_err(|error| {
        Problem::bad_request("bad_json", format!("the body is no {what}: {error}"))
    })
}

fn parse_signal(name: &str) -> Result<Signal, Problem> {
    let number = signal::number(name).filter(|_| name.starts_with("SIG"));
    number.and_then(|number| Signal::from_named_raw(number.into())).ok_or_else(|| {
        let detail = "signal must be a name such as SIGTERM, SIGINT, SIGKILL (signal(7))";
        Problem::bad_request("bad_signal", detail)
    })
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
