//! Whether the servers of the world read what the proxy forwards as the proxy read it: the same raw
//! bytes go through a proxy each to Node's http, Python's h11 and nginx, which write down what they
//! understood.
//!
//! Invariants: a reading is over when a request that came behind it, on whatever connection the proxy
//! keeps to the server, was understood as sent: a byte too much or too little before it would show in
//! it.

pub mod inputs;
pub mod servers;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use self::servers::Server;
use crate::{http::Connection, proxy::Proxy, wait::eventually};

/// The host that all requests are for.
pub const HOST: &str = "plain.test";
/// Bodies of requests that end a reading are longer than every other, each by one more.
const MARK: usize = 5000;

/// A request as a server understood it, in what all of them can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Understood {
    /// The method.
    pub method: String,
    /// The request target, unchanged.
    pub target: String,
    /// The field `Host`.
    pub host: String,
    /// The body, one character a byte.
    pub body: String,
}

/// What came of one input.
#[derive(Debug)]
pub struct Reading {
    /// Method, and bytes of the body, of each request that the proxy says was answered with 200.
    pub forwarded: Vec<(String, usize)>,
    /// The requests as the server understood them, in order.
    pub understood: Vec<Understood>,
    /// All header fields of each, where the server can tell.
    pub headers: Vec<Value>,
    /// What the server says was no HTTP.
    pub refused: Vec<Value>,
}

/// A proxy with a server behind it.
#[derive(Debug)]
pub struct Pair {
    proxy: Proxy,
    server: Server,
    marks: usize,
}

impl Pair {
    /// A proxy that leads to this server.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(server: Server) -> Result<Self> {
        Ok(Self { proxy: server.proxy()?, server, marks: 0 })
    }

    /// Sends the bytes of one connection and collects what came of them.
    ///
    /// # Errors
    /// When the request behind it was not understood as it was sent.
    pub fn read(&mut self, input: &[u8]) -> Result<Reading> {
        let (lines, records) = (self.proxy.audit().len(), self.server.record().len());
        let mut connection = self.proxy.connect()?;
        // The proxy may answer and close before it has taken everything.
        drop(connection.send(input));
        drop(connection.read_to_end());
        let (audit, record) = self.mark(lines, records)?;
        Ok(Reading {
            forwarded: audit.iter().filter(|line| line["status"] == 200).map(forwarded).collect(),
            understood: record.iter().filter_map(understood).collect(),
            headers: record
                .iter()
                .filter(|line| !is_refusal(line))
                .map(|line| line["headers"].clone())
                .collect(),
            refused: record.iter().filter(|line| is_refusal(line)).cloned().collect(),
        })
    }

    /// Sends a request that marks the end, and gives the audit lines and the records before it.
    fn mark(&mut self, lines: usize, records: usize) -> Result<(Vec<Value>, Vec<Value>)> {
        self.marks += 1;
        let body = "m".repeat(MARK + self.marks);
        let authority = format!("{HOST}:{}", self.server.port());
        let request = format!(
            "POST http://{authority}/mark HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut connection: Connection = self.proxy.connect()?;
        connection.send(request.as_bytes())?;
        let answer = connection.read_response("POST")?;
        let state = || format!("{}{}", self.server.state(), self.proxy.daemon.output());
        ensure!(answer.status() == 200, "the next request got {}: {}", answer.text(), state());
        let audited = |line: &Value| line["bytes_up"] == body.len();
        let audit = until("the mark is audited", || self.proxy.audit(), lines, audited)?;
        let noted = |line: &Value| understood(line).is_some_and(|request| request.body == body);
        let record = until("the mark was understood", || self.server.record(), records, noted)?;
        Ok((audit, record))
    }
}

/// What comes behind the first `from` lines, up to the one that is `last`, without it.
fn until(
    what: &str,
    lines: impl Fn() -> Vec<Value>,
    from: usize,
    last: impl Fn(&Value) -> bool,
) -> Result<Vec<Value>> {
    eventually(what, || {
        let new = lines().split_off(from);
        let end = new.iter().position(&last)?;
        Some(new[..end].to_vec())
    })
    .with_context(|| format!("{:?}", lines().split_off(from)))
}

fn forwarded(line: &Value) -> (String, usize) {
    let method = line["method"].as_str().unwrap_or_default().to_owned();
    (method, line["bytes_up"].as_u64().and_then(|n| n.try_into().ok()).unwrap_or(usize::MAX))
}

fn is_refusal(line: &Value) -> bool {
    line.get("refused").is_some() || line["status"].as_str().is_some_and(|status| status != "200")
}

fn understood(line: &Value) -> Option<Understood> {
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let host = || {
        let fields = line["headers"].as_array()?;
        let host = fields.iter().find(|field| field[0] == "host")?;
        host[1].as_str().map(str::to_owned)
    };
    (!is_refusal(line)).then(|| Understood {
        method: text("method"),
        target: text("target"),
        host: host().unwrap_or_else(|| text("host")),
        body: text("body"),
    })
}
