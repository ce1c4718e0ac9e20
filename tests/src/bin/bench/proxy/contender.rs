//! What is measured: our proxy, its peers, and no proxy at all, each asked in its own way for the same.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Result;
use serde_json::{Value, json};
use workspace_tests::{
    hello::Hello,
    proxy::{Proxy, Setup},
};

use super::{
    NO_PROXY, origin,
    peers::{self, Ended},
};
use crate::{bounded, process, progress, row::Role};

/// Ours, in messages; it comes first.
pub(super) const OURS: &str = "ours";
const CHECKED: &str = "checked.test";
const RAW: &str = "raw.test";
/// Where rules lead: tunnels to such a host are refused.
const API: &str = "api.test";
/// More than any load here opens.
const PLENTY: &str = "20000";
/// The header that routes add.
pub(super) const CREDENTIAL: &str = "Bearer credential";

/// What ours knows besides the way to the origin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// Rules, of which the last is asked for.
    pub(super) rules: usize,
    /// Patterns of hosts that are allowed.
    pub(super) patterns: usize,
}

impl Default for Known {
    /// About what a workspace has.
    fn default() -> Self {
        Self { rules: 10, patterns: 10 }
    }
}

/// How the origin is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    Tunnel,
    Forward,
    Route,
    /// A route to an origin with TLS, and the authority to trust.
    SecureRoute(PathBuf),
}

/// One that takes part, or why it does not.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) running: Result<Running, String>,
}

/// Something to send requests to.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    /// What CONNECT names for a tunnel that begins with a TLS hello; none where none is needed.
    pub(crate) checked: Option<String>,
    /// The same for one that carries plain HTTP.
    pub(crate) opaque: Option<String>,
    /// The ordinary request.
    pub(crate) request: Vec<u8>,
    /// Whether a connection stays open for the next request.
    pub(crate) keeps: bool,
    process: Option<Process>,
}

#[derive(Debug)]
enum Process {
    Ours(Box<Proxy>),
    Peer(Ended),
}

impl Running {
    /// At this address, asked in origin-form.
    pub(crate) fn plain(address: SocketAddr, peer: Option<Ended>) -> Self {
        let request = request("/small", RAW);
        let process = peer.map(Process::Peer);
        Self { address, checked: None, opaque: None, request, keeps: true, process }
    }

    /// A forward proxy that is told where to go.
    pub(super) fn forward(address: SocketAddr, peer: Ended, way: &Way, origin: SocketAddr) -> Self {
        let mut running = Self::plain(address, Some(peer));
        if *way == Way::Tunnel {
            running.checked = Some(origin.to_string());
            running.opaque = Some(origin.to_string());
        } else {
            running.request = request(&format!("http://{origin}/small"), &origin.to_string());
        }
        running
    }

    /// One that closes the connection behind every answer that it has read.
    pub(super) fn closing(self) -> Self {
        Self { keeps: false, ..self }
    }

    /// Time on the processor so far, of the proxy and its workers.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        self.sum(|pid| Ok(process::cpu(pid)?.as_secs_f64())).map(Duration::from_secs_f64)
    }

    /// Resident memory in KiB, of the proxy and its workers.
    pub(crate) fn resident_kib(&self) -> Result<f64> {
        self.sum(process::resident_kib)
    }

    fn sum(&self, of: impl Fn(u32) -> Result<f64>) -> Result<f64> {
        let pid = match &self.process {
            None => return Ok(0.0),
            Some(Process::Ours(proxy)) => proxy.daemon.pid(),
            Some(Process::Peer(peer)) => peer.pid(),
        };
        let path = format!("/proc/{pid}/task/{pid}/children");
        let children = std::fs::read_to_string(path).unwrap_or_default();
        let workers = children.split_whitespace().flat_map(str::parse);
        workers.chain([pid]).map(of).sum()
    }
}

impl Contender {
    /// All that can go this way, ours first.
    pub(super) fn all(way: &Way, origin: SocketAddr) -> Result<Vec<Self>> {
        let running = Ok(ours(way, origin, Known::default())?);
        let mut all = vec![Self { name: OURS, role: Role::Peer, running }];
        if !matches!(way, Way::SecureRoute(_)) {
            let running = Ok(Running::plain(origin, None));
            all.push(Self { name: NO_PROXY, role: Role::Floor, running });
        }
        let peers = peers::of(way).iter();
        all.extend(peers.map(|(name, start)| Self::start(name, *start, way, origin)));
        Ok(all)
    }

    /// A peer. One that does not start is no reason to measure nothing.
    pub(super) fn start(
        name: &'static str,
        start: peers::Start,
        way: &Way,
        origin: SocketAddr,
    ) -> Self {
        progress::say(format!("  starting {name}"));
        let running = start(way, origin).unwrap_or_else(|error| Err(bounded::reason(&error)));
        Self { name, role: Role::Peer, running }
    }
}

/// The TLS hello that begins every new tunnel.
pub(crate) fn hello() -> Vec<u8> {
    Hello { sni: Some(CHECKED.to_owned()), ..Hello::default() }.bytes()
}

/// `GET`, with the header fields that a program sends.
fn request(target: &str, host: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
        .into_bytes()
}

/// Ours.
pub(super) fn ours(way: &Way, origin: SocketAddr, known: Known) -> Result<Running> {
    let port = origin.port();
    let mut setup = Setup::new()?
        .policy(|policy| policy["egress"]["allow"] = patterns(known.patterns))
        .allow_local(CHECKED, port)
        .allow_raw(RAW, port)
        .local_host(API, port)
        .local_host(origin::SECURE_HOST, port)
        .args(&["--max-connections", PLENTY, "--max-tunnels", PLENTY, "--allow-plain-http-rules"]);
    let mut base = format!("http://{API}:{port}");
    if let Way::SecureRoute(authority) = way {
        setup = setup.args(&["--upstream-ca", &authority.to_string_lossy()]);
        base = format!("https://{}:{port}", origin::SECURE_HOST);
    }
    let proxy = setup.start()?;
    proxy.admin.json("PUT", "/rules", &rules(known.rules, &base))?;
    let raw = format!("{RAW}:{port}");
    let request = match way {
        Way::Tunnel => request("/small", RAW),
        Way::Forward => request(&format!("http://{raw}/small"), &raw),
        Way::Route | Way::SecureRoute(_) => request(&route(known), "127.0.0.1"),
    };
    let tunnel = |name: &str| (*way == Way::Tunnel).then(|| format!("{name}:{port}"));
    Ok(Running {
        address: proxy.tcp,
        checked: tunnel(CHECKED),
        opaque: tunnel(RAW),
        request,
        keeps: true,
        process: Some(Process::Ours(Box::new(proxy))),
    })
}

/// The path of the ordinary answer on the last route.
pub(super) fn route(known: Known) -> String {
    format!("/mcp/r{}/small", known.rules - 1)
}

fn patterns(many: usize) -> Value {
    (0..many).map(|number| json!({ "host": format!("*.h{number}.test"), "ports": [443] })).collect()
}

fn rules(many: usize, base: &str) -> Value {
    let rule = json!({ "real_base_url": base, "headers": { "Authorization": CREDENTIAL } });
    (0..many).map(|number| (format!("r{number}"), rule.clone())).collect()
}
