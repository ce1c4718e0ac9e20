//! What `exec` asks of the agent. Pure.
//!
//! Older agents refuse keys that they do not know, so nothing is written that was not asked for.

use std::collections::BTreeMap;

use http::{HeaderValue, Method, Request, Uri, header};
use serde_json::{Map, Value, json};
use workspace_common::body::{self, Body};

use super::{ExecArgs, OnDisconnect};
use crate::{client::terminal::Size, exec::frame::FRAMES};

/// The form of the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Bytes as they are.
    Frames,
    /// All that older agents know. Their commands wait for the reader without being told to.
    Lines,
}

/// A command whose reply is its output.
pub(super) fn attached(args: &ExecArgs, form: Form) -> Request<Body> {
    let mut content = common(args);
    content.insert("stdin_open".into(), (!args.no_stdin).into());
    let accepted = match form {
        Form::Frames => {
            content.insert("backpressure".into(), true.into());
            FRAMES
        }
        Form::Lines => "application/x-ndjson",
    };
    put(&mut content, "on_disconnect", args.on_disconnect.map(OnDisconnect::name));
    let mut request = post("/v1/exec", content);
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(accepted));
    request
}

/// A command with a terminal of this size, to be attached to. It is of the kind of `term` unless the
/// caller has said so.
pub(super) fn with_terminal(args: &ExecArgs, size: Size, term: Option<String>) -> Request<Body> {
    let mut content = common(args);
    content.insert("tty".into(), json!(size));
    let on_disconnect = args.on_disconnect.unwrap_or(OnDisconnect::Kill);
    content.insert("on_disconnect".into(), on_disconnect.name().into());
    if let (Some(Value::Object(env)), Some(term)) = (content.get_mut("env"), term) {
        env.entry("TERM").or_insert(term.into());
    }
    post("/v1/processes", content)
}

fn common(args: &ExecArgs) -> Map<String, Value> {
    let mut content = Map::new();
    if args.shell {
        content.insert("shell".into(), args.command.join(" ").into());
    } else {
        content.insert("argv".into(), json!(args.command));
    }
    content.insert("env".into(), json!(args.env.iter().cloned().collect::<BTreeMap<_, _>>()));
    put(&mut content, "cwd", args.workdir.as_ref().map(|dir| dir.to_string_lossy()));
    let timeout = args.timeout.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    put(&mut content, "timeout_ms", timeout);
    put(&mut content, "id", args.id.as_deref());
    if !args.limit.is_empty() {
        let limits: BTreeMap<_, _> =
            args.limit.iter().map(|limit| (limit.name, limit.value)).collect();
        content.insert("limits".into(), json!(limits));
    }
    content
}

fn put(content: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        content.insert(name.to_owned(), value.into());
    }
}

fn post(path: &'static str, content: Map<String, Value>) -> Request<Body> {
    let mut request = Request::new(body::json(&Value::Object(content)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(path);
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, json);
    request
}

impl OnDisconnect {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Keep => "keep",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use http_body_util::BodyExt;

    use super::*;

    /// The command line of this test: the real arguments.
    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: ExecArgs,
    }

    fn args(words: &[&str]) -> ExecArgs {
        Line::try_parse_from(std::iter::once(&"exec").chain(words)).unwrap().args
    }

    async fn content(request: Request<Body>) -> Value {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn an_older_agent_is_asked_nothing_that_it_does_not_know() {
        let args = args(&["-n", "true"]);
        let lines = content(attached(&args, Form::Lines)).await;
        assert_eq!(lines, json!({"argv": ["true"], "env": {}, "stdin_open": false}));
        let frames = content(attached(&args, Form::Frames)).await;
        let expected =
            json!({"argv": ["true"], "env": {}, "stdin_open": false, "backpressure": true});
        assert_eq!(frames, expected);
    }

    #[tokio::test]
    async fn what_is_asked_for_is_written() {
        let words = "-i -e A=b -w src --timeout 2s --id build --limit nofile=64 --limit pids=9 \
                     --on-disconnect keep -c echo hi";
        let args = args(&words.split(' ').collect::<Vec<_>>());
        assert_eq!(
            content(attached(&args, Form::Frames)).await,
            json!({
                "shell": "echo hi", "env": {"A": "b"}, "cwd": "src", "timeout_ms": 2000,
                "id": "build", "limits": {"nofile": 64, "pids": 9}, "on_disconnect": "keep",
                "stdin_open": true, "backpressure": true,
            })
        );
    }

    #[tokio::test]
    async fn a_terminal_brings_its_size_and_kind_and_ends_its_command_unless_told() {
        let size = Size { rows: 30, cols: 100 };
        let term = || Some("vt100".to_owned());
        let plain = content(with_terminal(&args(&["-it", "sh"]), size, term())).await;
        assert_eq!(
            plain,
            json!({
                "argv": ["sh"], "env": {"TERM": "vt100"}, "tty": {"rows": 30, "cols": 100},
                "on_disconnect": "kill",
            })
        );
        let told = args(&["-t", "-e", "TERM=dumb", "--on-disconnect", "keep", "sh"]);
        let told = content(with_terminal(&told, size, term())).await;
        assert_eq!(
            (&told["env"]["TERM"], &told["on_disconnect"]),
            (&json!("dumb"), &json!("keep"))
        );
    }

    #[test]
    fn input_is_passed_on_or_not() {
        assert!(Line::try_parse_from(["exec", "-i", "-n", "true"]).is_err());
        assert!(Line::try_parse_from(["exec", "--on-disconnect", "wait", "true"]).is_err());
    }
}
