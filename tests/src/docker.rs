//! Containers of the image under test.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use anyhow::{Context, Result, ensure};

use crate::{binaries, tools, wait::eventually};

/// The image of the workspace, built from the binaries under test.
pub const WORKSPACE_BASE: &str = "workspace-base:test";
/// The image with nothing but the proxy.
pub const WORKSPACE_PROXY: &str = "workspace-proxy:test";

/// Whether a daemon answers.
pub fn answers() -> bool {
    Command::new("docker")
        .args(["version", "--format", "{{.Server.Version}}"])
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Builds both images from the binaries under test, once for all tests of a process. Gives the
/// reason when they cannot be built.
pub fn build_images() -> Result<(), String> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let script = binaries::repository().join("images/build-local.sh");
            let output = Command::new(script).env("TAG", "test").stdin(Stdio::null()).output();
            let output = output.map_err(|error| error.to_string())?;
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            output.status.success().then_some(()).ok_or(said)
        })
        .clone()
}

/// Whether the calling test has to be skipped because the images cannot be built here.
pub fn no_images() -> bool {
    build_images().inspect_err(|reason| tools::report_skip(reason)).is_err()
}

/// Runs a docker command that has to succeed, and gives what it printed.
///
/// # Errors
/// When it fails, with what it said.
pub fn docker(arguments: &[&str]) -> Result<String> {
    let output = run(arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "docker {arguments:?}: {said}");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a docker command, whatever comes of it.
///
/// # Errors
/// When docker cannot be started.
pub fn run(arguments: &[&str]) -> Result<Output> {
    Command::new("docker")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("cannot run docker")
}

/// A running container; it is removed with this value.
#[derive(Debug)]
pub struct Container {
    id: String,
}

impl Container {
    /// Starts a container as the README tells people to: no network, read-only root, no
    /// capabilities, the socket directory as its one mount.
    ///
    /// # Errors
    /// When docker refuses.
    pub fn start(image: &str, sockets: &Path, options: &[&str], command: &[&str]) -> Result<Self> {
        let mount = format!("{}:/run/workspace", sockets.display());
        let mut arguments = vec![
            "run",
            "--detach",
            "--network",
            "none",
            "--read-only",
            "--cap-drop",
            "ALL",
            "--security-opt",
            "no-new-privileges",
            "--user",
            "1000:1000",
            "--pids-limit",
            "256",
            "--tmpfs",
            "/workspace:uid=1000,gid=1000,mode=0750",
            "--tmpfs",
            "/tmp:mode=1777",
            "--volume",
            &mount,
        ];
        arguments.extend(options);
        arguments.push(image);
        arguments.extend(command);
        Ok(Self { id: docker(&arguments)? })
    }

    /// Starts a container with `docker run --detach` and nothing but these arguments.
    ///
    /// # Errors
    /// When docker refuses.
    pub fn run(arguments: &[&str]) -> Result<Self> {
        Ok(Self { id: docker(&[&["run", "--detach"], arguments].concat())? })
    }

    /// The host's process id of its first process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> Result<u32> {
        let pid = docker(&["inspect", "--format", "{{.State.Pid}}", &self.id])?;
        let pid = pid.parse().ok().filter(|pid| *pid != 0);
        pid.with_context(|| format!("the container does not run:\n{}", self.logs()))
    }

    /// Its identifier.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it wrote so far, both outputs.
    pub fn logs(&self) -> String {
        run(&["logs", &self.id]).map_or_else(
            |error| error.to_string(),
            |output| {
                let texts = [output.stdout, output.stderr];
                texts.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect()
            },
        )
    }

    /// Waits until its health check passes.
    ///
    /// # Errors
    /// When it does not before the deadline.
    pub fn wait_until_healthy(&self) -> Result<()> {
        let format = "{{.State.Health.Status}}";
        eventually("the container is healthy", || {
            let state = docker(&["inspect", "--format", format, &self.id]).ok()?;
            (state == "healthy").then_some(())
        })
        .with_context(|| self.logs())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- container\n{}", self.logs());
        }
        drop(run(&["rm", "--force", "--volumes", &self.id]));
    }
}
