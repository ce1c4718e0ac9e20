//! A proxy in this process over real sockets, and an origin that plays a script.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser as _;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::timeout;
use workspace_common::drain::{self, Drain, DrainTrigger};
use workspace_common::serve::Welcome;
use workspace_common::stream::{Peer, Stream};

use crate::audit::Sinks;
use crate::audit::writer::{AuditWriter, Lines};
use crate::cli::{Cli, Command};
use crate::config::{Settings, Sources};
use crate::context::Context;
use crate::metrics::Metrics;
use crate::rules::document;
use crate::server::way_out::WayOut;
use crate::server::{OwnListeners, Plan};
use crate::service;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A running proxy.
pub(super) struct Proxy {
    pub(super) context: Arc<Context>,
    pub(super) trigger: DrainTrigger,
    log: Captured,
}

fn sinks(log: Captured, drain: Drain) -> Arc<Sinks> {
    let metrics = Metrics::new().unwrap();
    let writer = AuditWriter::to(log, Lines::Wanted, metrics.audit_dropped.clone()).unwrap();
    Arc::new(Sinks { writer, metrics, drain })
}

impl Proxy {
    /// Allows `allowed.test` and `plain.test` on the given ports, both on the loopback interface.
    pub(super) fn allowing(ports: &[u16]) -> Self {
        Self::with(ports, &[])
    }

    pub(super) fn with(ports: &[u16], flags: &[&str]) -> Self {
        let policy = format!(
            r#"{{version: 1,
            egress: {{
              allow: [{{host: "allowed.test", ports: {ports:?}, tls: none}}, {{host: "plain.test", ports: {ports:?}}},
                      {{host: "inside.test", ports: {ports:?}}}],
              deny: [{{host: "evil.test"}}],
              private_exceptions: [{{host: "allowed.test", cidr: "127.0.0.0/8"}},
                                   {{host: "plain.test", cidr: "127.0.0.0/8"}}]}},
            hosts: {{allowed.test: ["127.0.0.1"], plain.test: ["127.0.0.1"], inside.test: ["127.0.0.1"]}}}}"#
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), policy).unwrap();
        let fixed =
            ["workspace-proxy", "serve", "--listen", "unix:/unused", "--dns-server", "127.0.0.1:9"];
        let flags = fixed.iter().chain(flags);
        let Command::Serve(args) = Cli::parse_from(flags).command else { panic!("not serve") };
        let log = Captured::default();
        let (trigger, drain) = drain::channel();
        let plan = Plan {
            settings: Settings::load(&Sources {
                file: Some(file.path().to_owned()),
                ..Sources::default()
            })
            .unwrap(),
            way_out: WayOut::new(&args.upstream).unwrap(),
            tls: crate::upstream::tls::client_config(None).unwrap(),
            aws: None,
            sinks: sinks(log.clone(), drain.clone()),
            own: OwnListeners::default(),
            drain,
        };
        let context = Arc::new(plan.context(&args).unwrap());
        Self { context, trigger, log }
    }

    /// Puts a rules document into force.
    pub(super) fn rules(&self, json: &str) {
        let limits = self.context.rules.limits();
        let now = std::time::SystemTime::now();
        let document = document::parse(json.as_bytes(), limits, now).unwrap();
        self.context.rules.replace(document, None).unwrap();
    }

    /// A new connection of a workspace.
    pub(super) fn connect(&self) -> Client {
        let (client, inner) = UnixStream::pair().unwrap();
        let context = Arc::clone(&self.context);
        let peer = Peer::Unix { uid: Some(1000), pid: None };
        let accepted = (Stream::Unix(inner), peer);
        let serving = service::connection(context, accepted, Welcome::Served);
        self.context.drain.spawn(serving);
        Client(client)
    }

    /// One request on a connection of its own.
    pub(super) async fn ask(&self, request: &str) -> Answer {
        let mut client = self.connect();
        client.send(request).await;
        client.answer().await
    }

    /// Stops it as a second signal does: whatever is under way is cut.
    pub(super) async fn cut(&self) {
        self.trigger.start();
        self.trigger.cut();
        self.trigger.finished().await;
    }

    /// The audit lines so far.
    pub(super) fn audit(&self) -> Vec<serde_json::Value> {
        self.context.sinks.writer.flush();
        let text = String::from_utf8(self.log.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A plain request for `plain.test` at this port.
pub(super) fn get(port: u16) -> String {
    format!("GET http://plain.test:{port}/ HTTP/1.1\r\nHost: plain.test:{port}\r\n\r\n")
}

/// A workspace's side of a connection.
pub(super) struct Client(pub(super) UnixStream);

/// A response as it came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let line = self
            .head
            .lines()
            .find(|line| line.split(':').next().is_some_and(|n| n.eq_ignore_ascii_case(name)))?;
        line.split_once(':').map(|(_, value)| value.trim())
    }

    /// The proxy's own code, or `none`.
    pub(super) fn code(&self) -> &str {
        self.header("x-proxy-error").unwrap_or("none")
    }
}

impl Client {
    pub(super) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    pub(super) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = self.0.read_u8().await;
            let Ok(byte) = byte else { break };
            head.push(byte);
        }
        String::from_utf8(head).unwrap()
    }

    /// Reads a response whose body has a length, or lasts until the end of the connection.
    pub(super) async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        let status = head.get(9..12).and_then(|s| s.parse().ok()).unwrap_or(0);
        let mut answer = Answer { status, head, body: String::new() };
        let length = answer.header("content-length").and_then(|n| n.parse::<usize>().ok());
        if let Some(length) = length {
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).await.unwrap();
            answer.body = String::from_utf8(body).unwrap();
        }
        answer
    }

    pub(super) async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        // A connection that was cut ends in an error or in silence; both are the end.
        let _end = self.0.read_to_end(&mut rest).await;
        String::from_utf8(rest).unwrap()
    }
}

/// What the origin does after its answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    KeepOpen,
    Close,
}

/// An origin that answers every request with the same bytes and remembers what it was sent.
pub(super) struct Origin {
    pub(super) port: u16,
    seen: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl Origin {
    #[expect(clippy::disallowed_methods, reason = "a test origin has no drain")]
    pub(super) async fn start(answer: &'static str, then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let origin = Self { port, seen: Arc::default(), connections: Arc::default() };
        let (seen, connections) = (Arc::clone(&origin.seen), Arc::clone(&origin.connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(play(stream, answer, then, Arc::clone(&seen)));
            }
        });
        origin
    }

    pub(super) async fn ok() -> Self {
        Self::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Then::KeepOpen).await
    }

    /// The requests so far, each as it came with its body.
    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// A document of rules with one, which leads to an origin in clear.
pub(super) fn rule(p: u16, more: &str) -> String {
    format!(
        r#"{{"version": 1, "mcp_servers": {{"gh": {{"real_base_url": "http://plain.test:{p}/v1",
        "headers": {{"Authorization": "Bearer SECRET"}}{more}}}}}}}"#
    )
}

/// Answers without an end until every buffer on the way to a client that does not read is full.
pub(super) async fn answer_until_full(origin: &mut (impl AsyncWrite + Unpin)) {
    origin.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let patience = Duration::from_millis(300);
    while timeout(patience, origin.write_all(chunk.as_bytes())).await.is_ok_and(|sent| sent.is_ok())
    {
    }
}

async fn play(
    mut stream: TcpStream,
    answer: &'static str,
    then: Then,
    seen: Arc<Mutex<Vec<String>>>,
) {
    while let Some(request) = read_request(&mut stream).await {
        seen.lock().unwrap().push(request);
        if stream.write_all(answer.as_bytes()).await.is_err() || then == Then::Close {
            return;
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut text = Vec::new();
    while !is_complete(&text) {
        text.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(text).unwrap())
}

fn is_complete(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    match length {
        Some(length) => body.len() >= length.parse::<usize>().unwrap(),
        None if head.contains("transfer-encoding: chunked") => body.ends_with("0\r\n\r\n"),
        None => true,
    }
}
