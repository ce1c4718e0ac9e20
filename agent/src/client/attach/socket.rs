//! The connection to a command: a WebSocket (RFC 6455) over an ordinary connection to the agent, so
//! that Unix sockets, TCP and the token work as everywhere.

use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::{client::generate_key, derive_accept_key},
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use workspace_common::{
    body::{self, Body},
    client::Client,
};

use crate::{
    client::{
        event::Told,
        failure::{Failure, Fate, expect_success},
        terminal::Size,
    },
    exec::frame::{MAX_DATA, parse_message},
    files::path::printable,
};

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Room for the kind and the offset before output.
const MAX_MESSAGE: usize = MAX_DATA + 1024;

/// Both directions of a connection.
#[derive(Debug)]
pub(in crate::client) struct Connection {
    /// To the command.
    pub(in crate::client) sender: Sender,
    /// From it.
    pub(in crate::client) receiver: Receiver,
}

/// Attaches to the command `id`: from the byte `from` of its output on, or what is kept of it.
/// `fate` is the command's if the connection breaks.
///
/// # Errors
/// When the agent cannot be reached or refuses.
pub(in crate::client) async fn connect(
    client: &Client,
    id: &str,
    from: Option<u64>,
    fate: Fate,
) -> Result<Connection, Failure> {
    let key = generate_key();
    let answer = client.request_apart(request(id, from, &key)).await?;
    let answer = upgraded(answer, &key).await?;
    let upgraded = hyper::upgrade::on(answer).await.map_err(|_broken| Failure::CutShort(fate))?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let io = TokioIo::new(upgraded);
    let socket = WebSocketStream::from_raw_socket(io, Role::Client, Some(config)).await;
    let (sink, stream) = socket.split();
    Ok(Connection { sender: Sender { sink }, receiver: Receiver { stream, fate } })
}

fn request(id: &str, from: Option<u64>, key: &str) -> Request<Body> {
    let mut request = Request::new(body::empty());
    let query = from.map(|from| format!("?stdout_from={from}")).unwrap_or_default();
    *request.uri_mut() = format!("/v1/processes/{id}/attach{query}").parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    if let Ok(key) = HeaderValue::from_str(key) {
        headers.insert(header::SEC_WEBSOCKET_KEY, key);
    }
    request
}

/// Holds the agent to the handshake: something else may listen at its address.
async fn upgraded(answer: Response<Incoming>, key: &str) -> Result<Response<Incoming>, Failure> {
    let status = answer.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        expect_success(answer).await?;
        return Err(Failure::NoWebSocket { status });
    }
    let accept = answer.headers().get(header::SEC_WEBSOCKET_ACCEPT);
    if accept.is_some_and(|accept| *accept == derive_accept_key(key.as_bytes())) {
        return Ok(answer);
    }
    Err(Failure::NoWebSocket { status })
}

/// What goes to the command.
#[derive(Debug)]
pub(in crate::client) struct Sender {
    sink: SplitSink<Socket, Message>,
}

/// The connection takes no more. Why is for the receiver to find out: what came last says it.
#[derive(Debug)]
pub(in crate::client) struct Closed;

impl Sender {
    /// Input.
    pub(super) async fn input(&mut self, bytes: Bytes) -> Result<(), Closed> {
        self.send(Message::Binary(bytes)).await
    }

    /// Our terminal has this size now.
    pub(super) async fn resize(&mut self, size: Size) -> Result<(), Closed> {
        self.text(&json!({"resize": size})).await
    }

    /// There is no more input.
    pub(super) async fn eof(&mut self) -> Result<(), Closed> {
        self.text(&json!({"eof": true})).await
    }

    /// We leave.
    pub(super) async fn leave(&mut self) -> Result<(), Closed> {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "detached".into() };
        self.send(Message::Close(Some(frame))).await
    }

    async fn text(&mut self, message: &Value) -> Result<(), Closed> {
        self.send(Message::text(message.to_string())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), Closed> {
        self.sink.send(message).await.map_err(|error| {
            tracing::debug!(%error, "the connection to a command takes no more");
            Closed
        })
    }
}

/// What comes from the command.
#[derive(Debug)]
pub(in crate::client) struct Receiver {
    stream: SplitStream<Socket>,
    fate: Fate,
}

impl Receiver {
    /// The next thing told. Safe to cancel.
    ///
    /// # Errors
    /// When the connection ends, or what comes is not understood.
    pub(super) async fn next(&mut self) -> Result<Told, Failure> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(json))) => return Told::from_json(json.as_bytes()),
                Some(Ok(Message::Binary(bytes))) => return Told::from_frame(parse_message(bytes)?),
                Some(Ok(Message::Close(Some(close)))) if close.code != CloseCode::Normal => {
                    let reason = printable(close.reason.as_bytes());
                    return Err(Failure::Closed { code: close.code.into(), reason });
                }
                // Pings are answered by the library.
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(Failure::CutShort(self.fate)),
            }
        }
    }
}
