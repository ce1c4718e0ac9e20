//! An agent whose every answer the test gives, so that what a real one does seldom or never can be
//! tried: an older version, a connection that breaks, output without an end.

use std::{process::Command, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, channel::Channel};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};
use workspace_agent::exec::frame::{FRAMES, Kind, data_head, event, message_head};
use workspace_common::{
    body::{self, Body, BoxError},
    drain::{self, DrainTrigger},
    listen::ListenAddr,
    serve::{ServeOptions, serve},
};

/// Longer than anything takes; only failures wait for it.
const DEADLINE: Duration = Duration::from_secs(30);

/// The agent.
pub(crate) struct Scripted {
    address: String,
    calls: mpsc::UnboundedReceiver<Call>,
    _directory: tempfile::TempDir,
    _trigger: DrainTrigger,
}

/// A call that waits for its answer.
pub(crate) struct Call {
    request: Request<workspace_common::linger::Received>,
    answer: oneshot::Sender<Response<Body>>,
}

impl Scripted {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = format!("unix:{}", directory.path().join("s").display());
        let listener = address.parse::<ListenAddr>().unwrap().bind().unwrap().into_async().unwrap();
        let (trigger, drain) = drain::channel();
        let (to, calls) = mpsc::unbounded_channel();
        let handler = move |request, _peer| {
            let to = to.clone();
            async move {
                let (answer, answered) = oneshot::channel();
                to.send(Call { request, answer }).ok();
                // A call that the test does not care for any more.
                answered.await.unwrap_or_else(|_dropped| refusal(StatusCode::GONE, "gone"))
            }
        };
        let options = ServeOptions::new(16, DEADLINE);
        drain.spawn_background(serve(listener, options, drain.clone(), handler));
        Self { address, calls, _directory: directory, _trigger: trigger }
    }

    /// The binary under test, as a client of this agent.
    pub(crate) fn cli(&self, subcommand: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_workspace-agent"));
        command.args([subcommand, "--connect", &self.address]).args(arguments);
        command
    }

    /// The next call, which has to be this one.
    pub(crate) async fn call(&mut self, method: &str, target: &str) -> Call {
        let call = within("a call", self.calls.recv()).await.unwrap();
        let asked = format!("{} {}", call.request.method(), call.request.uri());
        assert_eq!(asked, format!("{method} {target}"));
        call
    }
}

pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    timeout(DEADLINE, future).await.unwrap_or_else(|_elapsed| panic!("no {what}"))
}

fn refusal(status: StatusCode, code: &str) -> Response<Body> {
    let problem = serde_json::json!({"code": code, "detail": "the test says so"});
    let mut response = Response::new(body::json(&problem));
    *response.status_mut() = status;
    response
}

impl Call {
    pub(crate) fn accepts(&self, kind: &str) -> bool {
        self.request.headers().get(header::ACCEPT).is_some_and(|accept| accept == kind)
    }

    pub(crate) async fn json(&mut self) -> Value {
        let body = self.request.body_mut().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    pub(crate) fn refuse(self, status: StatusCode, code: &str) {
        self.answer.send(refusal(status, code)).unwrap();
    }

    pub(crate) fn reply(self, content: &Value) {
        self.answer.send(Response::new(body::json(content))).unwrap();
    }

    /// Answers with a body that is still to come.
    pub(crate) fn stream(self, kind: &'static str) -> Stream {
        let (sender, channel) = Channel::new(1);
        let mut response = Response::new(channel.boxed_unsync());
        response.headers_mut().insert(header::CONTENT_TYPE, kind.parse().unwrap());
        self.answer.send(response).unwrap();
        Stream { sender, framed: kind == FRAMES }
    }

    /// Answers with a WebSocket.
    pub(crate) async fn upgrade(mut self) -> Socket {
        let upgraded = hyper::upgrade::on(&mut self.request);
        let key = self.request.headers().get(header::SEC_WEBSOCKET_KEY).unwrap();
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, "upgrade".parse().unwrap());
        headers.insert(header::UPGRADE, "websocket".parse().unwrap());
        let accept = derive_accept_key(key.as_bytes());
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.parse().unwrap());
        self.answer.send(response).unwrap();
        let io = TokioIo::new(within("upgrade", upgraded).await.unwrap());
        Socket(WebSocketStream::from_raw_socket(io, Role::Server, None).await)
    }
}

/// A reply under way. It breaks when it is dropped.
pub(crate) struct Stream {
    sender: http_body_util::channel::Sender<Bytes, BoxError>,
    framed: bool,
}

impl Stream {
    pub(crate) async fn event(&mut self, content: &Value) {
        let line = || format!("{content}\n").into();
        let data = if self.framed { event(content.to_string().as_bytes()) } else { line() };
        self.sender.send_data(data).await.unwrap();
    }

    /// Output in a frame. Whether anybody takes it.
    pub(crate) async fn output(&mut self, kind: Kind, offset: u64, bytes: &[u8]) -> bool {
        assert!(self.framed);
        let frame = [&data_head(kind, offset, bytes.len())[..], bytes].concat();
        self.sender.send_data(frame.into()).await.is_ok()
    }

    pub(crate) fn cut(self) {
        self.sender.abort("the test says so".into());
    }
}

/// The other end of an attached client.
pub(crate) struct Socket(WebSocketStream<TokioIo<Upgraded>>);

impl Socket {
    pub(crate) async fn event(&mut self, content: &Value) {
        use futures_util::SinkExt;
        self.0.send(Message::text(content.to_string())).await.unwrap();
    }

    pub(crate) async fn output(&mut self, kind: Kind, offset: u64, bytes: &[u8]) {
        use futures_util::SinkExt;
        let message = [&message_head(kind, offset)[..], bytes].concat();
        self.0.send(Message::binary(message)).await.unwrap();
    }

    pub(crate) async fn close(&mut self, code: u16, reason: &'static str) {
        use tokio_tungstenite::tungstenite::protocol::CloseFrame;
        self.0.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).await.unwrap();
    }

    /// What the client sends next: JSON, or bytes as a string with the key `base64`.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        match within("message", self.0.next()).await? {
            Ok(Message::Text(text)) => Some(serde_json::from_str(&text).unwrap()),
            Ok(Message::Binary(bytes)) => {
                Some(serde_json::json!({"base64": STANDARD.encode(bytes)}))
            }
            Ok(Message::Close(frame)) => {
                Some(serde_json::json!({"close": u16::from(frame.unwrap().code)}))
            }
            Ok(other) => panic!("{other:?}"),
            Err(_broken) => None,
        }
    }

    /// The next input of the client, which may come in several messages.
    pub(crate) async fn input(&mut self, expected: &[u8]) {
        let mut come = Vec::new();
        while come.len() < expected.len() {
            let message = self.next().await.unwrap();
            let text = message
                .get("base64")
                .and_then(Value::as_str)
                .unwrap_or_else(|| panic!("{message}"));
            come.extend(STANDARD.decode(text).unwrap());
        }
        assert_eq!(come, expected);
    }
}
