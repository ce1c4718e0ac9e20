//! A running proxy with a policy of its own.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    binaries,
    http::{Client, Connection, Endpoint},
    process::{Daemon, free_address},
    wait::eventually,
};

/// Token of every management listener in these tests.
pub const ADMIN_TOKEN: &str = "management-token-of-the-tests";

/// How to start a proxy.
#[derive(Debug)]
pub struct Setup {
    directory: TempDir,
    policy: Value,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// A proxy that denies everything.
    ///
    /// # Errors
    /// When there is no room for temporary files.
    pub fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("proxy").tempdir()?;
        let policy = json!({
            "version": 1,
            "egress": { "allow": [], "deny": [], "private_exceptions": [] },
            "hosts": {},
        });
        fs::write(directory.path().join("admin-token"), ADMIN_TOKEN)?;
        Ok(Self { directory, policy, arguments: Vec::new(), environment: Vec::new() })
    }

    /// Lets `name` stand for 127.0.0.1, and permits that address for this port.
    #[must_use]
    pub fn local_host(mut self, name: &str, port: u16) -> Self {
        self.policy["hosts"][name] = json!(["127.0.0.1"]);
        let exception = json!({ "host": name, "cidr": "127.0.0.0/8", "ports": [port] });
        push(&mut self.policy["egress"]["private_exceptions"], exception);
        self
    }

    /// The same, and allows CONNECT and forward requests to it.
    #[must_use]
    pub fn allow_local(self, name: &str, port: u16) -> Self {
        let mut setup = self.local_host(name, port);
        push(&mut setup.policy["egress"]["allow"], json!({ "host": name, "ports": [port] }));
        setup
    }

    /// The same for what is neither TLS nor HTTP: nothing that is said in the tunnel is looked at.
    #[must_use]
    pub fn allow_raw(self, name: &str, port: u16) -> Self {
        let mut setup = self.local_host(name, port);
        let rule = json!({ "host": name, "ports": [port], "tls": "none" });
        push(&mut setup.policy["egress"]["allow"], rule);
        setup
    }

    /// Changes the policy document.
    #[must_use]
    pub fn policy(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.policy);
        self
    }

    /// Adds arguments to `serve`.
    #[must_use]
    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Sets a variable of the proxy's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The directory of this proxy's socket and outputs.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The Unix socket of the workspace's side.
    pub fn socket(&self) -> PathBuf {
        self.directory().join("proxy.sock")
    }

    /// The command line: `serve` with all listeners and the policy file.
    ///
    /// # Errors
    /// When the policy file cannot be written.
    pub fn command(&self, tcp: SocketAddr, admin: SocketAddr) -> Result<Command> {
        let policy = self.directory().join("policy.yaml");
        // JSON is YAML as well.
        fs::write(&policy, serde_json::to_vec_pretty(&self.policy)?)?;
        let mut command = Command::new(binaries::proxy());
        command
            .arg("serve")
            .args(["--listen", &format!("unix:{}", self.socket().display())])
            .args(["--listen", &format!("tcp:{tcp}")])
            .args(["--admin-listen", &format!("tcp:{admin}")])
            .arg("--admin-token-file")
            .arg(self.directory().join("admin-token"))
            .arg("--policy")
            .arg(policy)
            .args(&self.arguments);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AWS_") {
                command.env_remove(name);
            }
        }
        command.envs(self.environment.iter().cloned());
        Ok(command)
    }

    /// Starts the proxy and waits until all its listeners answer.
    ///
    /// # Errors
    /// When they do not.
    pub fn start(self) -> Result<Proxy> {
        let (tcp, admin) = (free_address()?, free_address()?);
        let mut daemon = Daemon::spawn("proxy", self.command(tcp, admin)?, self.directory())?;
        for endpoint in [Endpoint::Unix(self.socket()), Endpoint::Tcp(tcp)] {
            daemon.wait_until_listening(&endpoint)?;
        }
        daemon.wait_until_answering(&Endpoint::Tcp(admin))?;
        let admin = Client::new(Endpoint::Tcp(admin)).with_token(ADMIN_TOKEN);
        Ok(Proxy { daemon, admin, tcp, setup: self })
    }
}

fn push(list: &mut Value, item: Value) {
    if let Some(items) = list.as_array_mut() {
        items.push(item);
    }
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    /// The process.
    pub daemon: Daemon,
    /// A client of the management listener, with its token.
    pub admin: Client,
    /// The TCP listener of the workspace's side.
    pub tcp: SocketAddr,
    setup: Setup,
}

impl Proxy {
    /// The Unix socket of the workspace's side.
    pub fn socket(&self) -> PathBuf {
        self.setup.socket()
    }

    /// A client of the workspace's side, over the Unix socket.
    pub fn client(&self) -> Client {
        Client::new(Endpoint::Unix(self.socket()))
    }

    /// The address for `HTTP_PROXY` and its like.
    pub fn url(&self) -> String {
        format!("http://{}", self.tcp)
    }

    /// A connection to the workspace's side, over the Unix socket.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn connect(&self) -> Result<Connection> {
        Connection::open(&Endpoint::Unix(self.socket()))
    }

    /// The audit lines written so far.
    ///
    /// # Panics
    /// When a line on standard output is no JSON object.
    pub fn audit(&self) -> Vec<Value> {
        let output = self.daemon.stdout();
        let whole = output.rfind('\n').map_or("", |end| &output[..end]);
        let parse = |line| serde_json::from_str(line).expect("an audit line is one JSON object");
        whole.lines().map(parse).collect()
    }

    /// Waits for the audit line that `wanted` describes.
    ///
    /// # Errors
    /// When there is none before the deadline.
    pub fn audited(&self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let found = || self.audit().into_iter().find(&wanted);
        eventually("the audit line is written", found)
            .map_err(|error| error.context(self.daemon.output()))
    }
}
