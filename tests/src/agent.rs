//! A running agent with a workspace of its own.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    binaries,
    gvisor::{self, Sandbox},
    http::{Client, Endpoint, Response},
    process::{Daemon, free_address},
};

/// How to start an agent.
#[derive(Debug)]
pub struct Setup {
    directory: TempDir,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    tcp: bool,
    token: Option<String>,
    /// The user to run as, when the test is root.
    user: Option<u32>,
}

/// Who an unprivileged agent is, when the test is root: nobody whom anything else runs as.
const SOMEBODY: u32 = 61_234;

impl Setup {
    /// An agent on a Unix socket, with an empty workspace.
    ///
    /// # Errors
    /// When there is no room for temporary files.
    pub fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("agent").tempdir()?;
        fs::create_dir(directory.path().join("root"))?;
        let (arguments, environment) = (Vec::new(), Vec::new());
        Ok(Self { directory, arguments, environment, tcp: false, token: None, user: None })
    }

    /// Adds arguments to `serve`.
    #[must_use]
    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Sets a variable of the agent's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Listens on TCP as well, and makes that the endpoint of the client.
    #[must_use]
    pub fn on_tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    /// Wants this token, from a file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn token(mut self, token: &str) -> Result<Self> {
        let path = self.directory.path().join("token");
        fs::write(&path, format!("{token}\n"))?;
        self.token = Some(token.to_owned());
        Ok(self.args(&["--token-file", &path.to_string_lossy()]))
    }

    /// Runs the agent without root's rights.
    ///
    /// # Errors
    /// When its files cannot be handed over.
    pub fn unprivileged(mut self) -> Result<Self> {
        if rustix::process::getuid().is_root() {
            // Where the binary was built somebody else may not be let in.
            fs::copy(binaries::agent(), self.binary_copy())?;
            for path in [self.directory().to_owned(), self.directory().join("root")] {
                std::os::unix::fs::chown(path, Some(SOMEBODY), Some(SOMEBODY))?;
            }
            self.user = Some(SOMEBODY);
        }
        Ok(self)
    }

    fn binary_copy(&self) -> PathBuf {
        self.directory().join("workspace-agent")
    }

    /// The directory of this agent's socket, root and outputs.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The command line, for tests of refusals; `serve` with the socket, the root and the arguments.
    pub fn command(&self) -> Command {
        let mut command = match self.user {
            Some(user) => {
                let mut command = Command::new(self.binary_copy());
                command.uid(user).gid(user);
                command
            }
            None => Command::new(binaries::agent()),
        };
        command
            .arg("serve")
            .arg("--listen")
            .arg(format!("unix:{}", self.socket().display()))
            .arg("--root")
            .arg(self.directory().join("root"))
            .args(&self.arguments)
            .envs(self.environment.iter().cloned());
        command
    }

    fn socket(&self) -> PathBuf {
        self.directory().join("agent.sock")
    }

    /// Starts the agent and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(mut self) -> Result<Agent> {
        let mut endpoint = Endpoint::Unix(self.socket());
        if self.tcp {
            let address = free_address()?;
            endpoint = Endpoint::Tcp(address);
            self = self.args(&["--listen", &format!("tcp:{address}")]);
        }
        let (sandbox, command) = self.placed(self.command())?;
        self.start_at(command, endpoint, sandbox)
    }

    /// Starts the agent by another command than its own, such as one that traces it, and waits until
    /// it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_as(self, command: Command) -> Result<Agent> {
        let endpoint = Endpoint::Unix(self.socket());
        self.start_at(command, endpoint, None)
    }

    fn start_at(
        self,
        command: Command,
        endpoint: Endpoint,
        sandbox: Option<Sandbox>,
    ) -> Result<Agent> {
        let mut daemon = Daemon::spawn("agent", command, self.directory())?;
        daemon.wait_until_answering(&endpoint)?;
        let mut client = Client::new(endpoint);
        if let Some(token) = &self.token {
            client = client.with_token(token);
        }
        Ok(Agent { daemon, client, sandbox, setup: self })
    }

    /// The command in the place where this run of the tests has its agents.
    fn placed(&self, command: Command) -> Result<(Option<Sandbox>, Command)> {
        if !gvisor::is_place() {
            return Ok((None, command));
        }
        let user = self.user.unwrap_or_default();
        let (sandbox, command) = Sandbox::new(&command, user, self.directory())?;
        Ok((Some(sandbox), command))
    }

    /// Runs an agent that has to refuse to start, and gives what it said.
    ///
    /// # Errors
    /// When it started.
    pub fn start_refused(&self) -> Result<String> {
        let (_sandbox, command) = self.placed(self.command())?;
        crate::agent::refusal(command)
    }
}

/// Runs a command that has to end by itself with a failure, and gives what it said.
///
/// # Errors
/// When it keeps running or succeeds.
pub fn refusal(command: Command) -> Result<String> {
    let directory = tempfile::tempdir()?;
    let mut daemon = Daemon::spawn("refused", command, directory.path())?;
    let status = daemon.wait()?;
    ensure!(!status.success(), "it was not refused:\n{}", daemon.output());
    ensure!(status.code().is_some_and(|code| code != 101), "it panicked:\n{}", daemon.output());
    Ok(daemon.output())
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    /// The process.
    pub daemon: Daemon,
    /// A client of its API, with the token.
    pub client: Client,
    sandbox: Option<Sandbox>,
    setup: Setup,
}

impl Agent {
    /// An agent as [`Setup::new`] describes it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start() -> Result<Self> {
        Setup::new()?.start()
    }

    /// The directory of its socket, root and outputs.
    pub fn directory(&self) -> &Path {
        self.setup.directory()
    }

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.setup.socket()
    }

    /// The host's path of the workspace.
    pub fn root(&self) -> PathBuf {
        self.setup.directory().join("root")
    }

    /// Sends a signal to the agent, wherever it runs.
    ///
    /// # Errors
    /// When it runs no more.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.sandbox.as_ref().map_or_else(|| self.daemon.signal(signal), |it| it.signal(signal))
    }

    /// What `/proc/PID/stat` says of a process that the agent sees; nothing when it is gone. The
    /// processes of a sandbox are not the host's: there the agent is asked.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn proc_stat(&self, pid: &str) -> Result<String> {
        let path = format!("/proc/{pid}/stat");
        if self.sandbox.is_none() {
            return Ok(fs::read_to_string(path).unwrap_or_default());
        }
        let reply = self.exec(&json!({ "argv": ["cat", path] }))?;
        Ok(text(&reply, "stdout")?.to_owned())
    }

    /// Which of its processes are there after its end. In a sandbox nobody outlives the first process
    /// (pid_namespaces(7)), and the numbers are not the host's.
    pub fn outlived_by(&self, pids: &[String]) -> Vec<String> {
        let lives = |pid: &&String| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        let host = if self.sandbox.is_some() { &[] } else { pids };
        host.iter().filter(lives).cloned().collect()
    }

    /// Runs a command by the buffered form of exec.
    ///
    /// # Errors
    /// When the answer is not a success.
    pub fn exec(&self, body: &Value) -> Result<Value> {
        self.client.json("POST", "/v1/exec", body)
    }

    /// Runs a shell command line and gives the whole reply.
    ///
    /// # Errors
    /// When the answer is not a success.
    pub fn shell(&self, line: &str) -> Result<Value> {
        self.exec(&serde_json::json!({ "shell": line }))
    }

    /// Asks for an exec whatever the answer.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn try_exec(&self, body: &Value) -> Result<Response> {
        self.client.send_json("POST", "/v1/exec", body)
    }

    /// A client subcommand of the agent's binary, connected to this agent.
    pub fn cli(&self, subcommand: &str) -> Command {
        let mut command = Command::new(binaries::agent());
        command.arg(subcommand).arg("--connect").arg(self.client.endpoint().to_string());
        command.stdin(Stdio::null());
        command
    }

    /// Runs a client subcommand that has to succeed.
    ///
    /// # Errors
    /// When it does not, with what it said.
    pub fn run_cli(&self, subcommand: &str, arguments: &[&str]) -> Result<Output> {
        let output = self.cli(subcommand).args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{subcommand} {arguments:?}: {}: {said}", output.status);
        Ok(output)
    }
}

impl Drop for Agent {
    /// An agent that is killed leaves its commands to PID 1, which is not the test's; one that is told
    /// twice to stop ends them all at once.
    fn drop(&mut self) {
        if !self.daemon.is_running() {
            return;
        }
        let told = [Signal::TERM, Signal::TERM].iter().all(|signal| self.signal(*signal).is_ok());
        if told && let Err(error) = self.daemon.wait() {
            eprintln!("the agent did not stop: {error:#}");
        }
    }
}

/// A string of a JSON reply.
///
/// # Errors
/// When the field is not a string.
pub fn text<'a>(reply: &'a Value, field: &str) -> Result<&'a str> {
    reply[field].as_str().with_context(|| format!("{field} is no string in {reply}"))
}
