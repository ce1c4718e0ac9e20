//! Where the agent of the demo runs: in a container without a network when a Docker daemon answers,
//! otherwise as a plain process that makes a network namespace of its own.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use workspace_tests::{
    binaries,
    docker::{self, Container},
    http::Endpoint,
    process::{Daemon, free_address},
    wait::eventually,
};

const IMAGE: &str = "workspace-demo:local";
const INSIDE: &str = "/usr/local/bin/workspace-demo";

/// How the workspace is kept from the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `docker run --network none`.
    Docker,
    /// The agent's own network namespace.
    Namespace,
    /// Not at all: this machine has neither.
    Open,
}

/// A running workspace.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) mode: Mode,
    /// The agent's socket, as the host sees it.
    pub(crate) socket: PathBuf,
    /// Where commands in the workspace reach the proxy.
    pub(crate) forward: String,
    /// The demo's own binary, as the workspace sees it.
    pub(crate) program: String,
    runs: Runs,
}

#[derive(Debug)]
enum Runs {
    Container(Container),
    Process(Daemon),
}

/// Docker when a daemon answers, unless `WORKSPACE_DEMO_MODE` says `docker` or `process`.
///
/// # Errors
/// When the variable has another value.
pub(crate) fn mode() -> Result<Mode> {
    match std::env::var("WORKSPACE_DEMO_MODE").as_deref() {
        Ok("docker") => Ok(Mode::Docker),
        Ok("process") => Ok(Mode::Namespace),
        Ok(other) => bail!("WORKSPACE_DEMO_MODE is '{other}': write docker or process"),
        Err(_) if docker::answers() => Ok(Mode::Docker),
        Err(_) => Ok(Mode::Namespace),
    }
}

impl Workspace {
    /// Starts the agent with `sockets` as the one directory that it shares with the proxy.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start(mode: Mode, directory: &Path, sockets: &Path) -> Result<Self> {
        match mode {
            Mode::Docker => Self::in_container(directory, sockets),
            Mode::Namespace => Self::as_process(mode, "required", directory, sockets),
            Mode::Open => Self::as_process(mode, "off", directory, sockets),
        }
    }

    fn in_container(directory: &Path, sockets: &Path) -> Result<Self> {
        import_image(directory)?;
        let forward = "127.0.0.1:8080".to_owned();
        let command = [
            "serve",
            "--listen",
            "unix:/run/workspace/agent.sock,mode=0666",
            "--root",
            "/workspace",
            "--forward",
            "127.0.0.1:8080=unix:/run/workspace/proxy.sock",
            "--isolate-net",
            "auto",
        ];
        let container = Container::start(IMAGE, sockets, &[], &command)?;
        let socket = sockets.join("agent.sock");
        eventually("the agent in the container answers", || agent_answers(&socket))
            .with_context(|| container.logs())?;
        let program = INSIDE.to_owned();
        Ok(Self { mode: Mode::Docker, socket, forward, program, runs: Runs::Container(container) })
    }

    fn as_process(mode: Mode, isolate: &str, directory: &Path, sockets: &Path) -> Result<Self> {
        let root = directory.join("workspace");
        fs::create_dir_all(&root)?;
        let (forward, socket) = (free_address()?.to_string(), sockets.join("agent.sock"));
        let mut command = Command::new(binaries::agent());
        command
            .args(["serve", "--isolate-net", isolate, "--root"])
            .arg(root)
            .args(["--listen", &format!("unix:{}", socket.display())])
            .args(["--forward", &format!("{forward}=unix:{}/proxy.sock", sockets.display())]);
        let mut daemon = Daemon::spawn("agent", command, directory)?;
        daemon.wait_until_answering(&Endpoint::Unix(socket.clone()))?;
        let program = std::env::current_exe()?.to_string_lossy().into_owned();
        Ok(Self { mode, socket, forward, program, runs: Runs::Process(daemon) })
    }

    /// A client subcommand of the agent's binary.
    pub(crate) fn cli(&self, subcommand: &str) -> Command {
        let mut command = Command::new(binaries::agent());
        command.arg(subcommand).arg("--connect").arg(format!("unix:{}", self.socket.display()));
        command.stdin(Stdio::null());
        command
    }

    /// Everything the agent logged.
    pub(crate) fn logs(&self) -> String {
        match &self.runs {
            Runs::Container(container) => container.logs(),
            Runs::Process(daemon) => daemon.output(),
        }
    }

    /// Stops the agent as its orchestrator would.
    ///
    /// # Errors
    /// When it does not end cleanly.
    pub(crate) fn stop(&mut self) -> Result<()> {
        match &mut self.runs {
            Runs::Container(container) => {
                docker::docker(&["stop", "--time", "20", container.id()])?;
                let format = "{{.State.ExitCode}}";
                let code = docker::docker(&["inspect", "--format", format, container.id()])?;
                ensure!(code == "0", "the agent ended with {code}:\n{}", container.logs());
            }
            Runs::Process(daemon) => {
                daemon.signal(rustix::process::Signal::TERM)?;
                let status = daemon.wait()?;
                ensure!(status.success(), "the agent ended with {status}:\n{}", daemon.output());
            }
        }
        Ok(())
    }
}

fn agent_answers(socket: &Path) -> Option<()> {
    std::os::unix::net::UnixStream::connect(socket).ok().map(drop)
}

/// An image with the two programs in an otherwise empty root: nothing has to be fetched for it.
fn import_image(directory: &Path) -> Result<()> {
    let root = directory.join("image");
    let programs = root.join("usr/local/bin");
    for place in ["usr/local/bin", "workspace", "run/workspace", "tmp"] {
        fs::create_dir_all(root.join(place))?;
    }
    fs::copy(binaries::agent(), programs.join("workspace-agent"))?;
    fs::copy(std::env::current_exe()?, programs.join("workspace-demo"))?;
    for entry in fs::read_dir(&programs)? {
        fs::set_permissions(entry?.path(), fs::Permissions::from_mode(0o755))?;
    }
    let archive = directory.join("image.tar");
    let tar = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").status();
    ensure!(tar.context("cannot run tar")?.success(), "tar failed");
    let entry = r#"ENTRYPOINT ["/usr/local/bin/workspace-agent"]"#;
    docker::docker(&["import", "--change", entry, &archive.to_string_lossy(), IMAGE])?;
    Ok(())
}
