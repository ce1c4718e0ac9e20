//! From a request to an action: authorise, route, answer. The outer function cannot fail; every
//! error answer of the agent is made here.

use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use serde_json::json;
use workspace_common::linger::Received;
use workspace_common::{
    body::{self, Body},
    drain::Drain,
    problem::Problem,
    token::BearerToken,
};

use crate::{
    events::{self, EventsContext},
    exec::{self, ExecContext},
    files::{self, FilesContext},
    isolate::Network,
    metrics::Metrics,
    preview::Previews,
    processes::{self, Call},
    seccomp::Seccomp,
    sync::{self, SyncContext},
};

/// Everything that requests need.
#[derive(Debug)]
pub struct Agent {
    /// Commands.
    pub exec: Arc<ExecContext>,
    /// What happens.
    pub events: EventsContext,
    /// Single files.
    pub files: FilesContext,
    /// Whole trees.
    pub sync: SyncContext,
    /// Ports that commands serve.
    pub previews: Previews,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What callers must present, if anything.
    pub token: Option<BearerToken>,
    /// Whether the agent is stopping.
    pub drain: Drain,
    /// The network that commands are in.
    pub network: Network,
    /// Whether commands are under the seccomp filter.
    pub seccomp: Seccomp,
    /// The answer of `GET /v1/info`.
    pub info: serde_json::Value,
}

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
enum Action<'a> {
    Health,
    Ready,
    Metrics,
    Info,
    Events,
    Exec,
    Stdin(&'a str),
    Processes(Call<'a>),
    File(&'a str),
    MakeDirectory,
    Move,
    Uploads,
    Upload(&'a str),
    Sync(&'a str),
    Port(&'a str),
}

impl Action<'_> {
    /// Probes carry no token; what they learn is one word.
    fn is_public(&self) -> bool {
        matches!(self, Self::Health | Self::Ready)
    }
}

fn action(path: &str) -> Option<Action<'_>> {
    match path {
        "/health" => return Some(Action::Health),
        "/readyz" => return Some(Action::Ready),
        "/metrics" => return Some(Action::Metrics),
        "/v1/info" => return Some(Action::Info),
        "/v1/events" => return Some(Action::Events),
        "/v1/exec" => return Some(Action::Exec),
        "/v1/processes" => return Some(Action::Processes(Call::All)),
        "/v1/files" => return Some(Action::File("")),
        "/v1/mkdir" => return Some(Action::MakeDirectory),
        "/v1/move" => return Some(Action::Move),
        "/v1/uploads" => return Some(Action::Uploads),
        _ => {}
    }
    if let Some(path) = path.strip_prefix("/v1/files/") {
        return Some(Action::File(path));
    }
    if let Some(id) = path.strip_prefix("/v1/uploads/") {
        return Some(Action::Upload(id));
    }
    if let Some(call) = path.strip_prefix("/v1/sync/") {
        return Some(Action::Sync(call));
    }
    if let Some(call) = path.strip_prefix("/v1/ports/") {
        return Some(Action::Port(call));
    }
    let rest = path.strip_prefix("/v1/processes/")?;
    match rest.split_once('/').map_or((rest, None), |(id, call)| (id, Some(call))) {
        ("", _) => None,
        (id, None) => Some(Action::Processes(Call::One(id))),
        (id, Some("output")) => Some(Action::Processes(Call::Output(id))),
        (id, Some("signal")) => Some(Action::Processes(Call::Signal(id))),
        (id, Some("resize")) => Some(Action::Processes(Call::Resize(id))),
        (id, Some("attach")) => Some(Action::Processes(Call::Attach(id))),
        (id, Some("stdin")) => Some(Action::Stdin(id)),
        _ => None,
    }
}

impl Agent {
    /// Answers one request.
    pub async fn answer(&self, request: Request<Received>) -> Response<Body> {
        let response = match self.act(request).await {
            Ok(response) => response,
            Err(problem) => problem.response(),
        };
        self.metrics.request_answered(response.status());
        response
    }

    async fn act(&self, request: Request<Received>) -> Result<Response<Body>, Problem> {
        let path = request.uri().path().to_owned();
        let action = action(&path);
        if !action.as_ref().is_some_and(Action::is_public) {
            self.authorize(&request)?;
        }
        match action {
            None => Err(Problem::no_such_endpoint(&path)),
            Some(Action::Events) => events::handle(&self.events, &request),
            Some(Action::Exec) => exec::run(&self.exec, request).await,
            Some(Action::Stdin(id)) => exec::feed(&self.exec, id, request).await,
            Some(Action::Processes(call)) => processes::handle(&self.exec, call, request).await,
            Some(Action::File(path)) => files::handle(&self.files, path, request).await,
            Some(Action::MakeDirectory) => files::arrange::make(&self.files, request).await,
            Some(Action::Move) => files::arrange::relocate(&self.files, request).await,
            Some(Action::Uploads) => files::upload::list(&self.files, &request),
            Some(Action::Upload(id)) => files::upload::handle(&self.files, id, request).await,
            Some(Action::Sync(call)) => sync::handle(&self.sync, call, request).await,
            Some(Action::Port(call)) => self.previews.handle(call, request).await,
            Some(shown @ (Action::Health | Action::Ready | Action::Metrics | Action::Info)) => {
                if !matches!(*request.method(), Method::GET | Method::HEAD) {
                    return Ok(exec::method_not_allowed("GET, HEAD"));
                }
                // Probers add parameters of their own to what they ask.
                if shown == Action::Info {
                    exec::query::none(request.uri().query())?;
                }
                Ok(self.show(&shown))
            }
        }
    }

    fn authorize(&self, request: &Request<Received>) -> Result<(), Problem> {
        let Some(token) = &self.token else { return Ok(()) };
        token.authorize(request.headers()).map_err(|_unauthorized| Problem::unauthorized())
    }

    fn show(&self, action: &Action<'_>) -> Response<Body> {
        match action {
            Action::Ready if self.drain.is_draining() => {
                let detail = "the workspace is stopping";
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "draining", detail).response()
            }
            Action::Ready => json_response(&json!({
                "status": "ready",
                "network": self.network.as_str(),
                "seccomp": self.seccomp.as_str(),
            })),
            Action::Metrics => metrics_response(self.metrics.text()),
            Action::Info => json_response(&self.info),
            _ => json_response(&json!({"status": "ok"})),
        }
    }
}

fn json_response(content: &serde_json::Value) -> Response<Body> {
    typed(body::json(content), "application/json")
}

fn metrics_response(text: String) -> Response<Body> {
    typed(body::full(text), Metrics::CONTENT_TYPE)
}

fn typed(body: Body, media_type: &'static str) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_actions() {
        assert_eq!(action("/health"), Some(Action::Health));
        assert_eq!(action("/v1/files/a/b"), Some(Action::File("a/b")));
        assert_eq!(action("/v1/ports/80/a"), Some(Action::Port("80/a")));
        assert_eq!(action("/v1/sync/push"), Some(Action::Sync("push")));
        assert_eq!(action("/v1/processes/a-1/stdin"), Some(Action::Stdin("a-1")));
        for (path, call) in [
            ("/v1/processes", Call::All),
            ("/v1/processes/a-1", Call::One("a-1")),
            ("/v1/processes/a-1/output", Call::Output("a-1")),
            ("/v1/processes/output/signal", Call::Signal("output")),
            ("/v1/processes/a-1/resize", Call::Resize("a-1")),
            ("/v1/processes/a-1/attach", Call::Attach("a-1")),
        ] {
            assert_eq!(action(path), Some(Action::Processes(call)), "{path}");
        }
        for path in ["/", "/v2", "/v1/processes//stdin", "/v1/processes/a/b/stdin", "/healthz/"] {
            assert_eq!(action(path), None, "{path}");
        }
        for path in ["/v1/processes/", "/v1/processes/a/", "/v1/processesa", "/v1/processes//"] {
            assert_eq!(action(path), None, "{path}");
        }
    }

    #[test]
    fn the_calls_about_files_have_paths_of_their_own() {
        for (path, expected) in [
            ("/v1/files", Action::File("")),
            ("/v1/mkdir", Action::MakeDirectory),
            ("/v1/move", Action::Move),
            ("/v1/uploads", Action::Uploads),
            ("/v1/uploads/0f", Action::Upload("0f")),
        ] {
            assert_eq!(action(path), Some(expected), "{path}");
        }
    }

    #[test]
    fn only_probes_are_public() {
        for path in [
            "/metrics",
            "/v1/info",
            "/v1/events",
            "/v1/exec",
            "/v1/processes",
            "/v1/files/a",
            "/v1/mkdir",
            "/v1/move",
            "/v1/uploads",
            "/v1/uploads/0f",
            "/v1/sync/pull",
            "/v1/ports/80/health",
        ] {
            assert!(!action(path).unwrap().is_public(), "{path}");
        }
    }
}
