//! The proof of isolation: a hostile program in a workspace of every kind tries to get out, and the
//! table of SECURITY.md shows what came of it.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use anyhow::{Result, ensure};
use workspace_tests::{
    binaries,
    docker::{self, Container, WORKSPACE_BASE},
    isolation::{
        FORWARD, MANAGEMENT_PORT, PROXY_SOCKET,
        docker_pod::DockerPod,
        gvisor_pod::GvisorPod,
        lab::Lab,
        pod::{self, Files, HOSTILE, Protection},
        table::{self, Place},
        vectors::Findings,
    },
    process::Daemon,
    require, tools,
    wait::eventually,
};

/// Whether the test has to be skipped because the images cannot be built here.
fn no_images() -> bool {
    match docker::build_images() {
        Ok(()) => false,
        Err(reason) => {
            tools::report_skip(&reason);
            true
        }
    }
}

/// What hostile code may reach in a pod of ours: hosts on the list, through the proxy, and the token
/// with which it could call the agent that runs it.
const IN_A_POD: [&str; 2] = ["proxy_permitted", "agent_token"];

fn prove(place: Place, findings: &Findings, may_reach: &[&str]) -> Result<()> {
    let reached = findings.all_reached();
    ensure!(reached == may_reach, "reached: {reached:?}\n{}", findings.report());
    table::compare(place, findings)
}

fn docker_pod(lab: &Lab, protection: Protection) -> Result<Findings> {
    let findings = DockerPod::start(lab, protection)?.attack(lab)?;
    eprintln!("{}", findings.report());
    Ok(findings)
}

#[test]
fn without_isolation_the_code_walks_out() -> Result<()> {
    require!(Docker, NetworkLab);
    if no_images() {
        return Ok(());
    }
    let findings = docker_pod(&Lab::start()?, Protection::Off)?;
    for vector in ["tcp_other", "udp", "dns", "metadata", "internal", "management_loopback"] {
        ensure!(findings.reached(vector), "{vector} proves nothing:\n{}", findings.report());
    }
    table::compare(Place::Open, &findings)
}

#[test]
fn a_network_policy_cannot_tell_the_containers_apart() -> Result<()> {
    require!(Docker, NetworkLab);
    if no_images() {
        return Ok(());
    }
    let lab = Lab::start()?;
    lab.enforce_policy()?;
    let findings = docker_pod(&lab, Protection::Off)?;
    for (vector, reached) in
        [("tcp_https", true), ("dns", true), ("management_loopback", true), ("metadata", false)]
    {
        assert_eq!(findings.reached(vector), reached, "{vector}:\n{}", findings.report());
    }
    table::compare(Place::Policy, &findings)
}

#[test]
fn under_runc_nothing_is_reached_but_the_proxy() -> Result<()> {
    require!(Docker, NetworkLab);
    if no_images() {
        return Ok(());
    }
    let findings = docker_pod(&Lab::start()?, Protection::On)?;
    prove(Place::Runc, &findings, &IN_A_POD)
}

#[test]
fn under_gvisor_nothing_is_reached_but_the_proxy() -> Result<()> {
    require!(Docker, NetworkLab, Gvisor);
    if no_images() {
        return Ok(());
    }
    let lab = Lab::start()?;
    let findings = GvisorPod::start(&lab, Protection::On)?.attack(&lab)?;
    eprintln!("{}", findings.report());
    // gVisor, at least that of 2022, does not keep the descriptors of an undumpable process apart:
    // code can write into the agent's log, and sees the output of commands, as it does without.
    prove(Place::Gvisor, &findings, &[IN_A_POD[0], IN_A_POD[1], "agent_streams"])
}

/// The row of the Docker shape: no network, one directory with both sockets, the proxy outside.
#[test]
fn in_a_container_without_a_network_nothing_is_reached_but_the_proxy() -> Result<()> {
    require!(Docker, NetworkLab);
    if no_images() {
        return Ok(());
    }
    let (lab, files, sockets) = (Lab::start()?, Files::write()?, tempfile::tempdir()?);
    // Anybody may make a socket in there, and nobody remove that of another user.
    fs::set_permissions(sockets.path(), fs::Permissions::from_mode(0o1777))?;
    let _proxy = proxy_outside(&lab, &files, &sockets)?;
    let hostile = format!("--volume={}:{HOSTILE}:ro", binaries::hostile().display());
    let forward = format!("--forward={FORWARD}=unix:{PROXY_SOCKET}");
    let command = ["serve", &forward];
    let container = Container::start(WORKSPACE_BASE, sockets.path(), &[&hostile], &command)?;
    let address = format!("unix:{}", sockets.path().join("agent.sock").display());
    let findings = pod::attack(&address, None, |program| Command::new(program))
        .map_err(|error| error.context(container.logs()))?;
    eprintln!("{}", findings.report());
    prove(Place::NoNetwork, &findings, &["agent_socket", "proxy_permitted"])
}

fn proxy_outside(lab: &Lab, files: &Files, sockets: &tempfile::TempDir) -> Result<Daemon> {
    let socket = sockets.path().join("proxy.sock");
    let mut command = lab.in_world(&binaries::proxy().to_string_lossy());
    command
        .arg("serve")
        .arg(format!("--listen=unix:{},mode=0666", socket.display()))
        .arg(format!("--admin-listen=tcp:127.0.0.1:{MANAGEMENT_PORT}"))
        .arg("--admin-token-file")
        .arg(files.path("admin").join("token"))
        .arg("--policy")
        .arg(files.path("policy").join("policy.json"));
    let daemon = Daemon::spawn("proxy", command, files.path("policy").as_path())?;
    eventually("the proxy listens", || socket.exists().then_some(()))
        .map_err(|error| error.context(daemon.output()))?;
    Ok(daemon)
}
