//! Does what a row says, and collects what comes of it.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{Action, Expect, Row, check, stage::Stages};
use crate::{
    ca::Ca,
    dns::{Answer, NameServer},
    http::{Connection, Head, Response},
    proxy::Proxy,
    wait::eventually,
    world::{GREETING, World, bytes},
};

/// Addresses of the standard names: public ones, which nothing but a namespace can give to a test.
const NAMES: [(&str, &str); 6] = [
    ("allowed.example", "93.184.216.34"),
    ("files.cdn.example", "93.184.216.35"),
    ("a.b.cdn.example", "93.184.216.36"),
    ("mirror.example", "93.184.216.37"),
    ("plain.test", "93.184.216.38"),
    ("api.gh.test", "93.184.216.39"),
];

/// Everything that rows share.
#[derive(Debug)]
pub struct Bench {
    stages: Stages,
    dns: NameServer,
    world: World,
    _ca: Ca,
}

/// What came of a row.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The answers, in order.
    pub(super) answers: Vec<Response>,
    /// The last answer, what was said at the start, or what came back in a tunnel.
    pub(super) said: String,
    /// The exit code of a start that did not succeed.
    pub(super) exit: Option<i32>,
    /// What was said in a tunnel.
    pub(super) words: Vec<u8>,
}

impl Bench {
    /// Starts the name server and the upstreams. Inside a namespace only.
    ///
    /// # Errors
    /// When something of it cannot be had.
    pub fn start() -> Result<Self> {
        let (ca, dns) = (Ca::new()?, NameServer::start()?);
        let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        let world = World::start(&ca.server_of(&names)?)?;
        let common = vec![
            format!("--dns-server={}", dns.address()),
            format!("--upstream-ca={}", ca.certificate().display()),
        ];
        Ok(Self { stages: Stages::new(common), dns, world, _ca: ca })
    }

    /// Runs a row.
    ///
    /// # Errors
    /// Says what came of it that should not have, or did not and should.
    pub fn run(&mut self, row: &Row) -> Result<()> {
        if matches!(row.action, Action::Start) {
            let (exit, said) = self.stages.attempt(&row.setup)?;
            return check::start(row, &Outcome { exit, said, ..Outcome::default() });
        }
        self.dns.script(answers(&row.answers)?, row.ttl);
        self.world.script(row.upstream.clone());
        let proxy = self.stages.proxy(&row.setup)?;
        let before = check::Before::of(proxy);
        let outcome = act(proxy, row).with_context(|| before.since(proxy))?;
        let seen = check::Seen {
            dialled: dialled(&self.world, &row.expect)?,
            received: received(&self.world, row, &outcome)?,
            asked: self.dns.asked(),
        };
        check::outcome(row, &outcome, &seen)?;
        check::output(row, proxy, &before)
    }
}

/// What was dialled. The kernel accepts a connection before the upstream knows of it, so what is
/// expected is waited for.
fn dialled(world: &World, expect: &Expect) -> Result<Vec<String>> {
    let all = || {
        let dialled = world.dialled();
        expect.dials.iter().all(|expected| dialled.contains(expected)).then_some(dialled)
    };
    eventually(&format!("{:?} is dialled", expect.dials), all)
        .with_context(|| format!("dialled {:?}", world.dialled()))
}

/// What the upstream got: all that was said, where the tunnel has to be open. It may speak before it
/// has heard everything.
fn received(world: &World, row: &Row, outcome: &Outcome) -> Result<String> {
    let enough = if row.expect.tunnel == Some(true) { outcome.words.len() } else { 0 };
    eventually("the upstream has heard everything", || {
        Some(world.received()).filter(|received| received.chars().count() >= enough)
    })
}

fn answers(written: &BTreeMap<String, Value>) -> Result<BTreeMap<String, Answer>> {
    let standard = NAMES.iter().map(|(name, ip)| Ok(((*name).to_owned(), list(ip)?)));
    let mut all: BTreeMap<String, Answer> = standard.collect::<Result<_>>()?;
    for (name, value) in written {
        all.insert(name.clone(), answer(value).with_context(|| format!("answer {value}"))?);
    }
    Ok(all)
}

fn list(ip: &str) -> Result<Answer> {
    Ok(Answer::Addresses(vec![ip.parse()?]))
}

fn answer(value: &Value) -> Result<Answer> {
    Ok(match value {
        Value::String(word) => match word.as_str() {
            "empty" => Answer::Empty,
            "nxdomain" => Answer::NoSuchName,
            "servfail" => Answer::Failure,
            "silence" => Answer::Silence,
            other => bail!("no such answer: {other}"),
        },
        Value::Array(_) => Answer::Addresses(addresses(value)?),
        _ if value["turns"].is_array() => {
            let turns = value["turns"].as_array().into_iter().flatten();
            Answer::InTurn(turns.map(addresses).collect::<Result<_>>()?)
        }
        _ if value["many"].is_u64() => {
            let many = u32::try_from(value["many"].as_u64().unwrap_or(0))?;
            let first = u32::from_be_bytes([45, 2, 0, 1]);
            Answer::Addresses(
                (0..many).map(|n| IpAddr::from((first + n % 250).to_be_bytes())).collect(),
            )
        }
        _ => {
            let target = value["alias"].as_str().context("an alias")?;
            Answer::Alias(target.to_owned(), addresses(&value["to"])?)
        }
    })
}

fn addresses(value: &Value) -> Result<Vec<IpAddr>> {
    let items = value.as_array().context("a list of addresses")?;
    items.iter().map(|ip| Ok(ip.as_str().context("an address")?.parse()?)).collect()
}

fn act(proxy: &Proxy, row: &Row) -> Result<Outcome> {
    let expect = &row.expect;
    match &row.action {
        Action::Start => bail!("a start has no proxy"),
        Action::Connect(target) => exchange(proxy.connect()?, &connect(target), expect),
        Action::Tls(target, hello) => {
            tunnel(proxy.connect()?, target, hello.bytes(), hello.segment)
        }
        Action::TlsAtOnce(target, hello) => at_once(proxy.connect()?, target, &hello.bytes()),
        Action::Say(target, text) => tunnel(proxy.connect()?, target, bytes(text), None),
        Action::Send(text) => exchange(proxy.connect()?, &bytes(&with_ports(proxy, text)), expect),
        Action::Admin(text) => {
            let connection = Connection::open(proxy.admin.endpoint())?;
            exchange(connection, &bytes(&with_ports(proxy, text)), expect)
        }
    }
}

/// `{proxy}` and `{management}` stand for the ports of the proxy's own listeners.
fn with_ports(proxy: &Proxy, text: &str) -> String {
    let management = match proxy.admin.endpoint() {
        crate::http::Endpoint::Tcp(address) => address.port(),
        crate::http::Endpoint::Unix(_) => 0,
    };
    text.replace("{proxy}", &proxy.tcp.port().to_string())
        .replace("{management}", &management.to_string())
}

fn connect(target: &str) -> Vec<u8> {
    bytes(&format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"))
}

/// Sends a request, or several at once, and reads as many answers as are expected.
fn exchange(mut connection: Connection, request: &[u8], expect: &Expect) -> Result<Outcome> {
    // The proxy may answer and close before it has taken everything.
    drop(connection.send(request));
    let method: String = request.iter().map(|b| char::from(*b)).take_while(|c| *c != ' ').collect();
    let mut outcome = Outcome::default();
    for _ in &expect.status {
        let answer = connection.read_response(&method)?;
        outcome.said = format!("{:?}\n{}", answer.head, answer.text());
        outcome.answers.push(answer);
    }
    if expect.cut {
        ensure!(connection.read_response(&method).is_err(), "a torn answer looks whole");
    }
    if expect.closed {
        let rest = connection.read_to_end().unwrap_or_default();
        ensure!(rest.is_empty(), "more came: {}", String::from_utf8_lossy(&rest));
    }
    Ok(outcome)
}

/// Asks for a tunnel and says something in it, in segments of a size if one is given.
fn tunnel(
    mut connection: Connection,
    target: &str,
    words: Vec<u8>,
    segment: Option<usize>,
) -> Result<Outcome> {
    connection.send(&connect(target))?;
    let answer = connection.read_head()?;
    if answer.status != 200 {
        bail!("the tunnel was refused: {answer:?}");
    }
    for part in words.chunks(segment.unwrap_or(usize::MAX)) {
        // The proxy may have closed already.
        drop(connection.send(part));
    }
    listen(connection, answer, words)
}

/// The same with all of it in one segment.
fn at_once(mut connection: Connection, target: &str, words: &[u8]) -> Result<Outcome> {
    connection.send(&[&connect(target)[..], words].concat())?;
    let answer = connection.read_head()?;
    listen(connection, answer, words.to_vec())
}

/// What comes back until the upstream has spoken or the tunnel ends.
fn listen(mut connection: Connection, head: Head, words: Vec<u8>) -> Result<Outcome> {
    let mut said = Vec::new();
    while !said.ends_with(GREETING) {
        let Ok(byte) = connection.read_exact(1) else { break };
        said.extend(byte);
    }
    Ok(Outcome {
        answers: vec![Response { head, body: Vec::new() }],
        said: said.iter().copied().map(char::from).collect(),
        words,
        ..Outcome::default()
    })
}
