//! The private network namespace: commands have loopback and nothing else.

use std::{fs, process::Command};

use anyhow::{Result, ensure};
use serde_json::json;
use workspace_tests::{
    agent::{Agent, Setup, refusal, text},
    origin::Origin,
    process::free_address,
    require,
};

/// Tries to connect, and prints what came of it.
const DIAL: &str = "
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)
    print('reached')
except OSError as error:
    print(error.strerror)
";

fn isolated() -> Result<Agent> {
    Setup::new()?.args(&["--isolate-net", "required"]).start()
}

fn dial(agent: &Agent, address: &str, port: u16) -> Result<String> {
    let reply =
        agent.exec(&json!({ "argv": ["python3", "-c", DIAL, address, port.to_string()] }))?;
    Ok(text(&reply, "stdout")?.trim().to_owned())
}

fn interfaces(agent: &Agent) -> Result<Vec<String>> {
    let reply = agent.shell("tail -n +3 /proc/self/net/dev | cut -d: -f1")?;
    Ok(text(&reply, "stdout")?.split_whitespace().map(str::to_owned).collect())
}

#[test]
fn commands_have_loopback_and_nothing_else() -> Result<()> {
    require!(UserNamespaces);
    let agent = isolated()?;
    assert_eq!(interfaces(&agent)?, ["lo"]);
    assert_eq!(agent.client.get("/readyz")?.status(), 200);
    assert_eq!(agent.client.get("/v1/info")?.json()?["network"], "private");
    Ok(())
}

#[test]
fn a_direct_connection_fails_where_the_host_makes_it() -> Result<()> {
    require!(UserNamespaces, Python);
    let upstream = Origin::saying("reached")?;
    let open = Setup::new()?.args(&["--isolate-net", "off"]).start()?;
    assert_eq!(dial(&open, "127.0.0.1", upstream.port())?, "reached");
    let agent = isolated()?;
    assert_eq!(dial(&agent, "127.0.0.1", upstream.port())?, "Connection refused");
    // 192.0.2.0/24 is set aside for documentation (RFC 5737); tried only where no packet can leave.
    assert_eq!(interfaces(&agent)?, ["lo"]);
    assert_eq!(dial(&agent, "192.0.2.1", 443)?, "Network is unreachable");
    Ok(())
}

#[test]
fn loopback_works_inside() -> Result<()> {
    require!(UserNamespaces, Python);
    let agent = isolated()?;
    let line = "python3 -m http.server --bind 127.0.0.1 8000 & \
                until python3 -c 'import urllib.request as u; u.urlopen(\"http://127.0.0.1:8000/\")' \
                2>/dev/null; do :; done; echo served; kill $!";
    let reply = agent.exec(&json!({ "shell": line, "timeout_ms": 30_000 }))?;
    assert_eq!(text(&reply, "stdout")?, "served\n", "{reply}");
    Ok(())
}

#[test]
fn the_api_stays_where_it_was_and_commands_cannot_reach_it() -> Result<()> {
    require!(UserNamespaces, Python);
    let agent = Setup::new()?.args(&["--isolate-net", "required"]).on_tcp().start()?;
    let workspace_tests::http::Endpoint::Tcp(address) = agent.client.endpoint() else {
        anyhow::bail!("not on TCP")
    };
    assert_eq!(agent.client.get("/health")?.status(), 200);
    assert_eq!(dial(&agent, "127.0.0.1", address.port())?, "Connection refused");
    Ok(())
}

#[test]
fn commands_have_no_capability_and_cannot_look_into_the_agent() -> Result<()> {
    require!(UserNamespaces);
    let agent = isolated()?;
    let status = agent.shell("cat /proc/self/status")?;
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let line = format!("{set}:\t0000000000000000\n");
        ensure!(text(&status, "stdout")?.contains(&line), "{}", text(&status, "stdout")?);
    }
    let pid = agent.daemon.pid();
    for file in ["mem", "environ", "ns/net"] {
        let line =
            format!("head -c 1 /proc/{pid}/{file} >/dev/null 2>&1 || readlink /proc/{pid}/{file}");
        let reply = agent.shell(&line)?;
        ensure!(reply["exit_code"] != 0, "{file} of the agent can be read: {reply}");
    }
    Ok(())
}

#[test]
fn the_agent_wipes_its_environment_once_it_has_read_it() -> Result<()> {
    // Root, who can look.
    require!(NetworkLab);
    let agent = Setup::new()?.env("AWS_SECRET_ACCESS_KEY", "secret").env("LANG", "C").start()?;
    let seen = fs::read(format!("/proc/{}/environ", agent.daemon.pid()))?;
    ensure!(seen.iter().all(|byte| *byte == 0), "{}", String::from_utf8_lossy(&seen));
    let environment = agent.shell("echo $LANG")?;
    assert_eq!(text(&environment, "stdout")?, "C\n", "what is passed on was read before");
    Ok(())
}

#[test]
fn required_fails_closed_where_no_namespace_can_be_made() -> Result<()> {
    require!(UserNamespaces, Strace);
    let setup = Setup::new()?.args(&["--isolate-net", "required"]);
    let said = refusal(without_unshare(&setup.command()))?;
    ensure!(said.contains("private network namespace"), "{said}");
    Ok(())
}

#[test]
fn auto_goes_on_without_isolation_and_says_so() -> Result<()> {
    require!(UserNamespaces, Strace);
    let directory = tempfile::tempdir()?;
    let setup = Setup::new()?.args(&["--isolate-net", "auto"]);
    let socket = setup.directory().join("agent.sock");
    let mut daemon = workspace_tests::process::Daemon::spawn(
        "agent",
        without_unshare(&setup.command()),
        directory.path(),
    )?;
    let endpoint = workspace_tests::http::Endpoint::Unix(socket);
    daemon.wait_until_listening(&endpoint)?;
    let client = workspace_tests::http::Client::new(endpoint);
    assert_eq!(client.get("/v1/info")?.json()?["network"], "shared");
    ensure!(daemon.stderr().contains("network"), "no warning in the log: {}", daemon.stderr());
    Ok(())
}

/// The same command with unshare(2) refused, as the default seccomp profile of containers does.
fn without_unshare(command: &Command) -> Command {
    let mut traced = Command::new("strace");
    // -D: the agent, not strace, is the child that ends with the test.
    traced.arg("-D");
    traced.args([
        "-f",
        "-o",
        "/dev/null",
        "-e",
        "trace=unshare",
        "-e",
        "inject=unshare:error=EPERM",
    ]);
    traced.arg(command.get_program()).args(command.get_args());
    traced
}

#[test]
fn a_forward_listens_inside_and_not_on_the_host() -> Result<()> {
    require!(UserNamespaces, Python);
    let setup = Setup::new()?;
    let address = free_address()?;
    let forward = format!("{address}=unix:{}", setup.directory().join("nobody.sock").display());
    let agent = setup.args(&["--isolate-net", "required", "--forward", &forward]).start()?;
    assert_eq!(dial(&agent, "127.0.0.1", address.port())?, "reached");
    ensure!(std::net::TcpStream::connect(address).is_err(), "the forward listens on the host");
    ensure!(fs::metadata(agent.socket()).is_ok(), "the socket is gone");
    Ok(())
}
