//! Programs under gVisor: a sandbox whose PID 1 is the program, on the machine's file system
//! read-only, with one directory of the host to write to. Unix sockets that it binds there are the
//! host's, so a client outside reaches them; it has no network.
//!
//! A suite of tests runs a second time with its agents in there by [`rerun`].

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Set while a suite runs for the second time.
const PLACE: &str = "WORKSPACE_TESTS_IN_GVISOR";

/// Whether agents are to be started under gVisor.
pub fn is_place() -> bool {
    std::env::var_os(PLACE).is_some()
}

/// A sandbox that is to be started, or runs.
#[derive(Debug)]
pub struct Sandbox {
    state: PathBuf,
    /// The container's name, which is the machine's: runsc makes an abstract socket of it.
    name: String,
}

impl Sandbox {
    /// Describes a sandbox that runs `command` as `user` and may write to `directory`, and gives the
    /// command that starts it, which ends with it and the other way round.
    ///
    /// # Errors
    /// When the description cannot be written.
    pub fn new(command: &Command, user: u32, directory: &Path) -> Result<(Self, Command)> {
        let (state, bundle) = (directory.join("runsc"), directory.join("bundle"));
        for made in [&state, &bundle] {
            fs::create_dir_all(made)?;
        }
        fs::write(bundle.join("config.json"), config(command, user, directory).to_string())?;
        let name = directory.file_name().context("a directory without a name")?;
        let sandbox = Self { state, name: name.to_string_lossy().into_owned() };
        let mut run = sandbox.runsc();
        // The tests change files meanwhile: nothing may be taken for unchanged.
        run.args(["--host-uds=all", "--network=none", "--file-access=shared"]);
        run.args(["run", "--bundle"]).arg(bundle).arg(&sandbox.name);
        Ok((sandbox, run))
    }

    fn runsc(&self) -> Command {
        let mut command = Command::new("runsc");
        command.arg("--root").arg(&self.state);
        command
    }

    /// The command that runs another program in the sandbox, from outside.
    pub fn exec(&self, argv: &[&str]) -> Command {
        let mut command = self.runsc();
        command.arg("exec").arg(&self.name).args(argv);
        command
    }

    /// Sends a signal to the program.
    ///
    /// # Errors
    /// When it runs no more.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let number = signal.as_raw().to_string();
        let output = self.runsc().args(["kill", &self.name, &number]).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

/// What the runtime is told (config.json of the OCI runtime specification).
fn config(command: &Command, user: u32, directory: &Path) -> Value {
    let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
    let arguments: Vec<String> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(text).collect();
    let mut environment = vec![format!("PATH={}", std::env::var("PATH").unwrap_or_default())];
    environment.extend(
        command
            .get_envs()
            .filter_map(|(name, value)| Some(format!("{}={}", text(name), text(value?)))),
    );
    let namespaces = ["pid", "network", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.0.0",
        "process": {
            "user": { "uid": user, "gid": user },
            "args": arguments,
            "env": environment,
            "cwd": "/",
            "capabilities": {},
            "noNewPrivileges": true,
        },
        "root": { "path": "/", "readonly": true },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
            {
                "destination": directory,
                "type": "bind",
                "source": directory,
                "options": ["rw", "bind"],
            },
        ],
        "linux": { "namespaces": namespaces },
    })
}

/// Runs the tests of the calling binary again, with their agents under gVisor: all but the calling
/// test and those named, each with the reason why it cannot hold there.
///
/// # Errors
/// When one fails there, or none has run.
pub fn rerun(calling: &str, left_out: &[(&str, &str)]) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(PLACE, "1").args(["--exact", "--skip", calling]);
    for (name, _reason) in left_out {
        command.args(["--skip", name]);
    }
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "under gVisor:\n{said}{complained}");
    let result = said.lines().find(|line| line.starts_with("test result: "));
    let result = result.context("no test has run")?;
    ensure!(!result.contains(" 0 passed"), "no test has run: {said}");
    println!("under gVisor: {result}");
    Ok(())
}
