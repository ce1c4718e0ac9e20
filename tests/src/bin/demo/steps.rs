//! The steps of the demo, in order. Each checks what it shows.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use workspace_tests::{
    binaries,
    http::{Client, Connection, Endpoint},
    mcp,
    origin::Origin,
    process::{Daemon, free_address},
};

use crate::{
    report::Report,
    workspace::{self, Mode, Workspace},
};

const UPSTREAM: &str = "mcp.demo.test";
const DIRECT: &str = "a command that dials out directly cannot: there is nothing but loopback";
const HELP: &str = "Install Docker (Debian: docker.io) and start its daemon, or let users make user and network \
namespaces (sysctl kernel.unprivileged_userns_clone=1; kernel.apparmor_restrict_unprivileged_userns=0).";

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let stage = Stage::new()?;
    report.note(&sizes());
    let upstream = report.step("an upstream starts: an MCP server that wants a token", || {
        mcp::start(&stage.secret)
    })?;
    let mut proxy =
        report.step("the proxy starts; it denies all but one host", || stage.proxy(&upstream))?;
    let mut workspace = start_workspace(report, &stage)?;
    report.step("/rules gets the upstream's token, and shows it to nobody", || {
        stage.push_rules(&upstream)
    })?;

    let inside = Inside { workspace: &workspace, stage: &stage };
    report.step("a command runs; its output and its exit code come back", || inside.exit_code())?;
    report.step(
        "a command calls the MCP server through the proxy; the token is added on the way",
        || inside.calls_tool(&upstream),
    )?;
    report
        .step("nothing that the workspace can read holds the token", || inside.finds_no_secret())?;
    report.step("a command that wants another host is denied", || inside.is_denied())?;
    if workspace.mode == Mode::Open {
        report.not_shown(DIRECT, HELP);
    } else {
        report.step(DIRECT, || inside.cannot_dial(&upstream))?;
    }
    report.step("a folder of 10 files is pushed into the workspace", || inside.push())?;
    report.step("a command edits one file, makes one and removes one", || inside.edit())?;
    report.step("the folder is pulled back with those changes", || inside.pull())?;
    let median =
        report.step("100 commands run one after another on one connection", || inside.repeats())?;
    report.note(&format!("median of one: {median:.2} ms"));
    report.step("both stop cleanly, and no log holds the token", || {
        stage.stop(&mut workspace, &mut proxy)
    })
}

fn sizes() -> String {
    let size = |path: PathBuf| fs::metadata(path).map_or(0, |file| file.len() / 1024);
    format!(
        "workspace-agent {} KiB, workspace-proxy {} KiB",
        size(binaries::agent()),
        size(binaries::proxy())
    )
}

/// What the steps share: places, and the secret that must not spread.
struct Stage {
    directory: TempDir,
    sockets: PathBuf,
    secret: String,
    admin: Endpoint,
    admin_token: String,
}

impl Stage {
    fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("demo").tempdir()?;
        // The directory above is the user's alone; inside it the container's user needs to write.
        let sockets = directory.path().join("sockets");
        fs::create_dir(&sockets)?;
        fs::set_permissions(&sockets, fs::Permissions::from_mode(0o777))?;
        let (secret, admin_token) = (random("secret")?, random("admin")?);
        let admin = Endpoint::Tcp(free_address()?);
        Ok(Self { directory, sockets, secret, admin, admin_token })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn proxy(&self, upstream: &Origin) -> Result<Daemon> {
        let policy = json!({
            "version": 1,
            "hosts": { UPSTREAM: ["127.0.0.1"] },
            "egress": {
                "allow": [],
                "private_exceptions": [{ "host": UPSTREAM, "cidr": "127.0.0.0/8", "ports": [upstream.port()] }],
            },
            "rules": { "allow_plain_http": true },
        });
        fs::write(self.path().join("policy.yaml"), policy.to_string())?;
        fs::write(self.path().join("admin-token"), &self.admin_token)?;
        let socket = self.sockets.join("proxy.sock");
        let Endpoint::Tcp(admin) = &self.admin else { unreachable!("made in new") };
        let mut command = Command::new(binaries::proxy());
        command
            .args(["serve", "--listen", &format!("unix:{},mode=0666", socket.display())])
            .args(["--admin-listen", &format!("tcp:{admin}"), "--admin-token-file"])
            .arg(self.path().join("admin-token"))
            .arg("--policy")
            .arg(self.path().join("policy.yaml"));
        let mut proxy = Daemon::spawn("proxy", command, self.path())?;
        proxy.wait_until_answering(&Endpoint::Unix(socket))?;
        proxy.wait_until_answering(&self.admin)?;
        Ok(proxy)
    }

    fn push_rules(&self, upstream: &Origin) -> Result<()> {
        let admin = Client::new(self.admin.clone()).with_token(&self.admin_token);
        let server = json!({
            "real_base_url": format!("http://{UPSTREAM}:{}", upstream.port()),
            "headers": { "Authorization": format!("Bearer {}", self.secret) },
        });
        admin.json("PUT", "/rules", &json!({ "demo": server }))?;
        let shown = admin.get("/rules")?.text();
        ensure!(shown.contains("demo"), "the rule is not there: {shown}");
        ensure!(!shown.contains(&self.secret), "GET /rules shows the token");
        Ok(())
    }

    fn stop(&self, workspace: &mut Workspace, proxy: &mut Daemon) -> Result<()> {
        workspace.stop()?;
        proxy.signal(Signal::TERM)?;
        let status = proxy.wait()?;
        ensure!(status.success(), "the proxy ended with {status}:\n{}", proxy.output());
        for (who, log) in [("agent", workspace.logs()), ("proxy", proxy.output())] {
            ensure!(!log.contains(&self.secret), "a log of the {who} holds the token");
        }
        ensure!(
            proxy.stdout().contains("\"demo\""),
            "the proxy left no audit line:\n{}",
            proxy.output()
        );
        Ok(())
    }
}

fn start_workspace(report: &mut Report, stage: &Stage) -> Result<Workspace> {
    let mode = workspace::mode()?;
    let title = match mode {
        Mode::Docker => {
            "the agent starts in Docker: no network, read-only root, no capabilities, user 1000"
        }
        Mode::Namespace | Mode::Open => {
            "the agent starts as a process in a network namespace of its own"
        }
    };
    match report.step(title, || Workspace::start(mode, stage.path(), &stage.sockets)) {
        Err(error) if mode == Mode::Namespace => {
            report.not_shown(title, &format!("{error:#}\n  {HELP}"));
            let title = "the agent starts without any isolation, to show the rest";
            report.step(title, || Workspace::start(Mode::Open, stage.path(), &stage.sockets))
        }
        other => other,
    }
}

/// The steps inside the workspace.
struct Inside<'a> {
    workspace: &'a Workspace,
    stage: &'a Stage,
}

impl Inside<'_> {
    /// Runs the demo's own program in the workspace, through the agent's command line client.
    fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.workspace.cli("exec");
        command.arg("--").arg(&self.workspace.program).arg("inside").args(arguments);
        command.output().context("cannot run workspace-agent exec")
    }

    fn run_well(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        ensure!(output.status.success(), "{arguments:?}: {}\n{}", output.status, all(&output));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn exit_code(&self) -> Result<()> {
        let output = self.run(&["exit", "42"])?;
        ensure!(output.status.code() == Some(42), "not 42 but {}\n{}", output.status, all(&output));
        Ok(())
    }

    fn calls_tool(&self, upstream: &Origin) -> Result<()> {
        let url = format!("http://{}/mcp/demo/mcp", self.workspace.forward);
        let said = self.run_well(&["call-tool", &url])?;
        ensure!(said == "hello, workspace\n", "the tool answered {said:?}");
        let expected = format!("Bearer {}", self.stage.secret);
        let calls = upstream.received();
        ensure!(!calls.is_empty(), "the upstream saw no call");
        let with_token = calls.iter().all(|call| call.all("authorization") == [expected.as_str()]);
        ensure!(with_token, "the upstream saw a call without the token");
        Ok(())
    }

    fn finds_no_secret(&self) -> Result<()> {
        let found = self.run_well(&["search"])?;
        ensure!(found.contains("HTTPS_PROXY"), "the command does not know its proxy:\n{found}");
        ensure!(!found.contains(&self.stage.secret), "the token is inside the workspace");
        Ok(())
    }

    fn is_denied(&self) -> Result<()> {
        let output = self.run(&["connect", "evil.example:443"])?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.code() == Some(22), "{}\n{}", output.status, all(&output));
        ensure!(said == "403 not_allowed\n", "the proxy answered {said:?}");
        Ok(())
    }

    fn cannot_dial(&self, upstream: &Origin) -> Result<()> {
        let there = upstream.address();
        std::net::TcpStream::connect(there).context("not even the host reaches the upstream")?;
        // 192.0.2.0/24 is set aside for documentation (RFC 5737).
        let said = self.run_well(&["dial", &there.to_string(), "192.0.2.1:443"])?;
        let lines: Vec<&str> = said.lines().collect();
        ensure!(lines.first() == Some(&"interfaces: lo"), "there is more than loopback:\n{said}");
        let refused =
            lines.len() == 3 && lines.iter().skip(1).all(|line| line.contains("os error"));
        ensure!(refused, "something was reached:\n{said}");
        Ok(())
    }

    fn folder(&self) -> PathBuf {
        self.stage.path().join("project")
    }

    fn push(&self) -> Result<()> {
        fs::create_dir(self.folder())?;
        for number in 0..10 {
            let text = format!("file {number}\n");
            fs::write(self.folder().join(format!("file-{number}.txt")), text)?;
        }
        self.sync("push", &[self.folder().as_os_str(), "project".as_ref()])
    }

    fn edit(&self) -> Result<()> {
        self.run_well(&["edit", "project"]).map(drop)
    }

    fn pull(&self) -> Result<()> {
        let back = self.stage.path().join("back");
        self.sync("pull", &["project".as_ref(), back.as_os_str()])?;
        let read =
            |name: &str| fs::read_to_string(back.join(name)).with_context(|| name.to_owned());
        ensure!(
            read("file-0.txt")? == "file 0\nedited in the workspace\n",
            "the edit is not there"
        );
        ensure!(read("new.txt")? == "made in the workspace\n", "the new file is not there");
        ensure!(read("file-9.txt")? == "file 9\n", "an untouched file has changed");
        ensure!(!back.join("file-1.txt").exists(), "the removed file is still there");
        Ok(())
    }

    fn sync(&self, direction: &str, arguments: &[&std::ffi::OsStr]) -> Result<()> {
        let output = self.workspace.cli(direction).args(arguments).output()?;
        ensure!(output.status.success(), "{direction}: {}\n{}", output.status, all(&output));
        Ok(())
    }

    /// The median time of one command, in milliseconds.
    fn repeats(&self) -> Result<f64> {
        let endpoint = Endpoint::Unix(self.workspace.socket.clone());
        let body = json!({ "argv": [self.workspace.program, "inside", "true"] }).to_string();
        let client = Client::new(endpoint.clone()).with("content-type", "application/json");
        let request = client.request("POST", "/v1/exec", body.as_bytes());
        let mut connection = Connection::open(&endpoint)?;
        let mut times = Vec::new();
        for _ in 0..100 {
            let begin = Instant::now();
            connection.send(&request)?;
            let reply = connection.read_response("POST")?;
            times.push(begin.elapsed().as_secs_f64() * 1000.0);
            ensure!(reply.json()?["exit_code"] == 0, "a command failed: {}", reply.text());
        }
        times.sort_by(f64::total_cmp);
        Ok(times[times.len() / 2])
    }
}

fn all(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// A text that occurs nowhere else.
fn random(name: &str) -> Result<String> {
    let mut bytes = [0; 16];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut bytes)?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{name}-{hex}"))
}
