//! The agent as PID 1 of a container.

use std::{fs, os::unix::fs::PermissionsExt};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use workspace_tests::{
    agent::text,
    docker::{self, Container, WORKSPACE_BASE, docker},
    http::{Client, Endpoint},
    require, tools,
    wait::eventually,
};

struct World {
    container: Container,
    client: Client,
    _sockets: TempDir,
}

/// A container with the agent as PID 1; nothing where images cannot be built here.
fn start() -> Result<Option<World>> {
    if let Err(reason) = docker::build_images() {
        tools::report_skip(&reason);
        return Ok(None);
    }
    let sockets = tempfile::tempdir()?;
    fs::set_permissions(sockets.path(), fs::Permissions::from_mode(0o777))?;
    let container = Container::start(WORKSPACE_BASE, sockets.path(), &[], &[])?;
    let client = Client::new(Endpoint::Unix(sockets.path().join("agent.sock")));
    eventually("the agent answers", || client.get("/health").ok())
        .map_err(|error| error.context(container.logs()))?;
    Ok(Some(World { container, client, _sockets: sockets }))
}

impl World {
    fn shell(&self, line: &str) -> Result<Value> {
        self.client.json("POST", "/v1/exec", &json!({ "shell": line, "timeout_ms": 60_000 }))
    }
}

/// Counts the processes in state Z.
const ZOMBIES: &str = "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l";

#[test]
fn orphans_are_reaped_and_no_zombie_stays() -> Result<()> {
    require!(Docker);
    let Some(world) = start()? else { return Ok(()) };
    assert_eq!(text(&world.shell("cat /proc/1/comm")?, "stdout")?.trim(), "workspace-agent");
    // The inner shell ends at once; its children become orphans that PID 1 inherits.
    world.shell("for i in $(seq 50); do (sleep 0.05 & setsid sleep 0.05 &) ; done")?;
    eventually("no zombie is left", || {
        let reply = world.shell(ZOMBIES).ok()?;
        (text(&reply, "stdout").ok()?.trim() == "0").then_some(())
    })?;
    eventually("no orphan is left", || {
        let reply = world.shell("grep -c . /proc/[0-9]*/comm | wc -l").ok()?;
        // PID 1, the shell, grep and wc.
        (text(&reply, "stdout").ok()?.trim().parse::<u32>().ok()? <= 4).then_some(())
    })
}

#[test]
fn a_storm_of_orphans_steals_no_exit_code() -> Result<()> {
    require!(Docker);
    let Some(world) = start()? else { return Ok(()) };
    std::thread::scope(|scope| {
        let storm = scope.spawn(|| world.shell("for i in $(seq 300); do (true & true &) ; done"));
        for round in 0..100 {
            let code = round % 100;
            let reply = world.shell(&format!("exit {code}"))?;
            assert_eq!(
                (&reply["exit_code"], &reply["signal"]),
                (&json!(code), &Value::Null),
                "{reply}"
            );
        }
        storm.join().expect("no panic").map(drop)
    })
}

#[test]
fn it_stops_within_its_time_on_sigterm_with_exit_code_zero() -> Result<()> {
    require!(Docker);
    let Some(world) = start()? else { return Ok(()) };
    world.shell("setsid sleep 1000 & sleep 1000 &")?;
    let id = world.container.id();
    docker(&["kill", "--signal", "TERM", id])?;
    eventually("the container has stopped", || {
        let state = docker(&["inspect", "--format", "{{.State.Running}}", id]).ok()?;
        (state == "false").then_some(())
    })?;
    let code = docker(&["inspect", "--format", "{{.State.ExitCode}}", id])?;
    ensure!(code == "0", "exit code {code}: {}", world.container.logs());
    Ok(())
}
