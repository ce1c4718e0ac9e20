//! A long-running program under test: its output is kept in files, and it ends with its value.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    http::{Client, Endpoint},
    wait::eventually,
};

/// A running program.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Daemon {
    /// Starts `command` with its output in files named after `name` in `directory`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(name: &str, mut command: Command, directory: &Path) -> Result<Self> {
        let stdout = directory.join(format!("{name}.stdout"));
        let stderr = directory.join(format!("{name}.stderr"));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&stderr)?)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, stdout, stderr })
    }

    /// Waits until something accepts connections at `endpoint`.
    ///
    /// # Errors
    /// When the program ends first, or the deadline passes; both with what it wrote.
    pub fn wait_until_listening(&mut self, endpoint: &Endpoint) -> Result<()> {
        let mut ended = None;
        let waited = eventually(&format!("{} listens on {endpoint}", self.name), || {
            ended = self.child.try_wait().ok().flatten();
            (ended.is_some() || connectable(endpoint)).then_some(())
        });
        if let Some(status) = ended {
            bail!("{} ended with {status} instead of listening:\n{}", self.name, self.output());
        }
        waited.with_context(|| self.output())
    }

    /// Waits until a server answers HTTP at `endpoint`. A socket accepts connections as soon as it
    /// is bound; only an answer says that the program has started.
    ///
    /// # Errors
    /// When the program ends first, or the deadline passes; both with what it wrote.
    pub fn wait_until_answering(&mut self, endpoint: &Endpoint) -> Result<()> {
        self.wait_until_listening(endpoint)?;
        let client = Client::new(endpoint.clone());
        client.get("/").map(drop).with_context(|| self.output())
    }

    /// The program's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When there is no such process any more.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no pid")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Waits for the end of the program.
    ///
    /// # Errors
    /// When it does not end before the deadline.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let what = format!("{} ends", self.name);
        eventually(&what, || self.child.try_wait().ok().flatten()).with_context(|| self.output())
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it wrote on standard output so far.
    pub fn stdout(&self) -> String {
        lossy(&self.stdout)
    }

    /// What it wrote on standard error so far.
    pub fn stderr(&self) -> String {
        lossy(&self.stderr)
    }

    /// Both outputs, for messages and for searching them.
    pub fn output(&self) -> String {
        format!("--- {0} stdout\n{1}--- {0} stderr\n{2}", self.name, self.stdout(), self.stderr())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only when it has ended already, which is what they are for.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("{}", self.output());
        }
    }
}

/// A TCP address on loopback that nobody listens on.
///
/// # Errors
/// When the kernel has no port left.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn connectable(endpoint: &Endpoint) -> bool {
    match endpoint {
        Endpoint::Unix(path) => UnixStream::connect(path).is_ok(),
        Endpoint::Tcp(address) => TcpStream::connect(address).is_ok(),
    }
}

fn lossy(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
