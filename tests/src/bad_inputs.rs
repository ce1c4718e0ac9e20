//! The table of bad inputs as data: one JSON line is one input with the world around it and what
//! has to come of it. tests/data/bad_inputs.jsonl is the table; docs of its keys are here.
//!
//! Invariant: a line fails when anything happens that it does not name: a question to the name
//! server, a connection, a secret in the log.

mod check;
mod expand;
mod run;
mod stage;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

pub use self::run::Bench;
use crate::{binaries, hello::Hello, world::Upstream};

/// One line of the table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The family: the number of the row in the table that the project has to pass.
    pub id: u16,
    /// What is special about it. Unique within the family.
    pub name: String,
    /// How the proxy is started.
    #[serde(default)]
    pub setup: Setup,
    /// What the name server says, besides the standard names. A list of addresses, `{"turns": […]}`,
    /// `{"alias": NAME, "to": […]}`, or one of `empty`, `nxdomain`, `servfail`, `silence`.
    #[serde(default)]
    pub answers: BTreeMap<String, Value>,
    /// How long its answers may be kept, in seconds.
    #[serde(default)]
    pub ttl: u32,
    /// How upstreams behave.
    #[serde(default)]
    pub upstream: Upstream,
    /// What is done.
    #[serde(rename = "do")]
    pub action: Action,
    /// What has to come of it.
    pub expect: Expect,
}

/// How the proxy is started, apart from the standard policy. Rows with equal setups share a proxy.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Setup {
    /// Further entries of `egress.allow`.
    pub allow: Vec<Value>,
    /// Further entries of `egress.deny`.
    pub deny: Vec<Value>,
    /// Further entries of `egress.private_exceptions`.
    pub exceptions: Vec<Value>,
    /// Other keys of the policy, merged over the standard ones.
    pub policy: Value,
    /// The whole policy file, in place of the standard one.
    pub text: Option<String>,
    /// Further arguments of `serve`.
    pub args: Vec<String>,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// The rules that the orchestrator sends, in place of the standard ones.
    pub rules: Value,
}

/// What is done. Texts are bytes: one a character.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Start the proxy and see whether it does.
    Start,
    /// Ask for a tunnel to this.
    Connect(String),
    /// The same, and begin a TLS handshake inside.
    Tls(String, Box<Hello>),
    /// The same in one segment with the request.
    TlsAtOnce(String, Box<Hello>),
    /// Ask for a tunnel, and say this inside.
    Say(String, String),
    /// Send this on a connection to the workspaces' listener.
    Send(String),
    /// Send this on a connection to the management listener.
    Admin(String),
}

/// What has to come of it. What is absent is not looked at, but for questions and connections,
/// which must be none then.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// The statuses of the whole answers, in order. For a start: the exit code, or nothing for one that
    /// succeeds.
    pub status: Vec<u16>,
    /// The codes of the answers, `ok` standing for none, in order.
    pub code: Vec<String>,
    /// The code of the audit line, where it is another than the answer's.
    pub audit: Option<String>,
    /// Keys of the audit line.
    pub record: BTreeMap<String, Value>,
    /// Whether the tunnel reaches the upstream.
    pub tunnel: Option<bool>,
    /// The addresses dialled, in any order.
    pub dials: Vec<String>,
    /// The names asked for, in any order, each once.
    pub dns: Vec<String>,
    /// What is in what the upstream received.
    pub received: Vec<String>,
    /// What is not in it. Letter case does not count.
    pub not_received: Vec<String>,
    /// What is in the last answer, or in what the program said at the start.
    pub says: Vec<String>,
    /// What is not in it.
    pub not_says: Vec<String>,
    /// Whether the proxy closes the connection behind its answers.
    pub closed: bool,
    /// Whether another answer comes behind those, and breaks off, so that nobody takes it for whole.
    pub cut: bool,
}

impl Row {
    /// The name of its test.
    pub fn test_name(&self) -> String {
        format!("row_{:03} {}", self.id, self.name.escape_default())
    }
}

/// All rows.
///
/// # Errors
/// Names the line that is malformed or repeated.
pub fn load() -> Result<Vec<Row>> {
    let path = binaries::repository().join("tests/data/bad_inputs.jsonl");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut names = BTreeSet::new();
    let parse = |(at, line): (usize, &str)| {
        let row: Row = serde_json::from_str(line)
            .with_context(|| format!("line {} of {}", at + 1, path.display()))?;
        ensure!(names.insert(row.test_name()), "{} is there twice", row.test_name());
        Ok(expand::row(row))
    };
    text.lines().enumerate().filter(|(_, line)| !line.is_empty()).map(parse).collect()
}

/// Rows whose behaviour is not built yet, by test name, with what is missing.
///
/// # Errors
/// When the list is malformed.
pub fn pending() -> Result<BTreeMap<String, String>> {
    let path = binaries::repository().join("tests/data/bad_inputs_pending.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_str(&text)?)
}
