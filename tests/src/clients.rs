//! Real clients in the place where they run in production: commands of an agent that see no network
//! but a forward to the proxy's socket. tests/data/clients.jsonl says what each of them does and what
//! comes of it.
//!
//! Invariant: what is denied never reaches the origin.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    agent::{self, Agent, text},
    binaries,
    ca::Ca,
    peer::{self, Peer},
    proxy::{self, Proxy},
    tools::Tool,
    wait::eventually,
};

/// Where commands find the proxy, in a network that is theirs alone.
const FORWARD: &str = "127.0.0.1:8080";
/// The credential of the rule `api`, which no client ever sees.
const SECRET: &str = "Bearer secret-of-the-origin";
/// Longer than any client takes, in milliseconds.
const PATIENCE: u32 = 90_000;

/// One line of the table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The program.
    pub client: String,
    /// What it does, in words that name the test. Unique for the client.
    pub case: String,
    /// The command line; a single word with blanks is one for the shell. `{python}` and the like stand
    /// for paths, see [`Stage`].
    pub run: Vec<String>,
    /// Variables besides those of every command.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Whether the client reports a failure.
    #[serde(default)]
    pub fails: bool,
    /// What it prints, on either output.
    #[serde(default)]
    pub says: Vec<String>,
    /// Keys of the audit line that the request has to leave.
    pub audit: Value,
}

impl Row {
    /// The name of its test.
    pub fn test_name(&self) -> String {
        format!("{}: {}", self.client, self.case)
    }

    /// What a machine has to have for it.
    pub fn needs(&self) -> Vec<Tool> {
        let mut needed = vec![Tool::Openssl, Tool::PythonPackages, Tool::Git];
        match self.client.as_str() {
            "curl" => needed.push(Tool::Curl),
            "wget" => needed.push(Tool::Wget),
            _ => {}
        }
        needed
    }

    fn is_denied(&self) -> bool {
        self.audit["decision"] == "deny"
    }
}

/// The table.
///
/// # Errors
/// When a line is malformed.
pub fn load() -> Result<Vec<Row>> {
    let path = binaries::repository().join("tests/data/clients.jsonl");
    let parse = |line: &str| serde_json::from_str(line).with_context(|| line.to_owned());
    fs::read_to_string(path)?.lines().map(parse).collect()
}

/// An origin, a proxy before it, and an agent whose commands have no other way out.
#[derive(Debug)]
pub struct Stage {
    agent: Agent,
    proxy: Proxy,
    origin: Peer,
    ca: Ca,
    cases: usize,
}

impl Stage {
    /// Starts all three. Call it in a [`crate::namespace`]: the origin has the real ports.
    ///
    /// # Errors
    /// When one of them does not start.
    pub fn start() -> Result<Self> {
        let ca = Ca::new()?;
        let origin = start_origin(&ca)?;
        let proxy = start_proxy(&ca)?;
        let forward = format!("{FORWARD}=unix:{}", proxy.socket().display());
        let agent = agent::Setup::new()?
            .args(&["--isolate-net=required", "--forward", &forward])
            .start()?;
        Ok(Self { agent, proxy, origin, ca, cases: 0 })
    }

    /// Runs one row.
    ///
    /// # Errors
    /// Says what came otherwise than the row says.
    pub fn run(&mut self, row: &Row) -> Result<()> {
        let (lines, requests) = (self.proxy.audit().len(), self.origin.record().len());
        let reply = self.command(row)?;
        let printed = format!("{}{}", text(&reply, "stdout")?, text(&reply, "stderr")?);
        ensure!((reply["exit_code"] != 0) == row.fails, "the client ended otherwise: {reply}");
        for said in &row.says {
            ensure!(printed.contains(said), "no {said:?} in what the client says:\n{printed}");
        }
        ensure!(!printed.contains(SECRET), "the client has the secret:\n{printed}");
        self.audited(row, lines).with_context(|| printed.clone())?;
        let arrived = &self.origin.record()[requests..];
        ensure!(arrived.is_empty() == row.is_denied(), "the origin saw {arrived:?}\n{printed}");
        Ok(())
    }

    /// Runs the client in a directory of its own, which is its home as well.
    fn command(&mut self, row: &Row) -> Result<Value> {
        self.cases += 1;
        let home = self.agent.root().join(format!("case-{}", self.cases));
        fs::create_dir(&home)?;
        let mut env = self.environment(&home.to_string_lossy());
        env.extend(row.env.iter().map(|(name, value)| (name.clone(), self.filled(value))));
        let line: Vec<String> = row.run.iter().map(|word| self.filled(word)).collect();
        let mut body = json!({ "cwd": home, "env": env, "timeout_ms": PATIENCE });
        match line.as_slice() {
            [shell] if shell.contains(' ') => body["shell"] = json!(shell),
            argv => body["argv"] = json!(argv),
        }
        self.agent.exec(&body)
    }

    /// How an operator tells every client which authority to trust; names differ by client.
    fn environment(&self, home: &str) -> BTreeMap<String, String> {
        let ca = self.ca.certificate().to_string_lossy().into_owned();
        let trusting = [
            "SSL_CERT_FILE",
            "CURL_CA_BUNDLE",
            "REQUESTS_CA_BUNDLE",
            "PIP_CERT",
            "GIT_SSL_CAINFO",
            "NODE_EXTRA_CA_CERTS",
        ];
        let mut environment: BTreeMap<_, _> =
            trusting.into_iter().map(|name| (name.to_owned(), ca.clone())).collect();
        environment.insert("HOME".to_owned(), home.to_owned());
        environment.insert("NODE_USE_ENV_PROXY".to_owned(), "1".to_owned());
        environment
    }

    fn filled(&self, word: &str) -> String {
        let script = |name: &str| peer::script(name).to_string_lossy().into_owned();
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        [
            ("{ca}", path(self.ca.certificate())),
            ("{python}", path(peer::python())),
            ("{client.py}", script("client.py")),
            ("{node}", path(peer::node())),
            ("{npm}", path(peer::npm())),
            ("{client.mjs}", script("client.mjs")),
            ("{proxy}", format!("http://{FORWARD}")),
            ("{route}", format!("http://{FORWARD}/mcp/api")),
        ]
        .into_iter()
        .fold(word.to_owned(), |word, (name, value)| word.replace(name, &value))
    }

    /// Waits for the line that the row names among those that came after the first `before`.
    fn audited(&self, row: &Row, before: usize) -> Result<()> {
        let wanted = row.audit.as_object().context("audit is an object")?;
        let fits = |line: &Value| wanted.iter().all(|(key, value)| line[key] == *value);
        let found = || self.proxy.audit()[before..].iter().any(fits).then_some(());
        eventually("the audit line is written", found)
            .with_context(|| format!("{:#?}", &self.proxy.audit()[before..]))
    }
}

fn start_origin(ca: &Ca) -> Result<Peer> {
    let server = ca.server_of(&["allowed.test", "secret.test"])?;
    let (certificate, key) = (server.certificate.to_string_lossy(), server.key.to_string_lossy());
    let behind = format!("http://{FORWARD}/mcp/api");
    let arguments = ["--certificate", &certificate, "--key", &key];
    let more = ["--secret", SECRET, "--behind", &behind];
    Peer::start(&peer::python(), "services", &[&arguments[..], &more[..]].concat())
}

fn start_proxy(ca: &Ca) -> Result<Proxy> {
    let authority = ca.certificate();
    let proxy = proxy::Setup::new()?
        .allow_local("allowed.test", 443)
        .allow_local("allowed.test", 80)
        .local_host("secret.test", 443)
        .args(&["--upstream-ca", &authority.to_string_lossy()])
        .start()?;
    let base = "https://secret.test/v1";
    let rule = json!({ "api": { "real_base_url": base, "headers": { "Authorization": SECRET } } });
    proxy.admin.json("PUT", "/rules", &rule)?;
    Ok(proxy)
}
