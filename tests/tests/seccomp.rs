//! The seccomp filter of commands: what it refuses, what it leaves alone, and who is told of it.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use workspace_tests::{
    agent::{Agent, Setup, refusal, text},
    binaries, require,
};

/// Each call in a process of its own, with arguments that do no harm where it is permitted. Nothing
/// but the filter stands in the way.
fn attempts(mode: &str) -> Result<BTreeMap<String, String>> {
    let agent = Setup::new()?.args(&["--isolate-net", "off", "--seccomp", mode]).start()?;
    let script = binaries::repository().join("tests/peers/syscalls.py");
    let reply = agent.exec(&json!({ "argv": ["python3", script] }))?;
    ensure!(reply["exit_code"] == 0, "{reply}");
    let lines = text(&reply, "stdout")?.lines();
    let pairs = lines.map(|line| line.rsplit_once(": ").context(line.to_owned()));
    Ok(pairs.collect::<Result<Vec<_>>>()?.into_iter().map(|(n, r)| (n.into(), r.into())).collect())
}

#[test]
fn the_side_doors_of_the_kernel_are_closed_and_the_front_door_is_not() -> Result<()> {
    require!(Python);
    let with = attempts("required")?;
    let without = attempts("off")?;
    ensure!(with.len() > 30 && without.len() == with.len(), "{with:?}");
    for (name, result) in &with {
        let before = &without[name];
        let (kind, name) = name.split_once(' ').context("a kind")?;
        match kind {
            "refused" => assert_eq!(result, "EPERM", "{name}"),
            "absent" => assert_eq!(result, "ENOSYS", "{name}"),
            "allowed" => assert_eq!((result, before), (&"ok".to_owned(), result), "{name}"),
            _ => anyhow::bail!("what is {kind}?"),
        }
    }
    // As root each of these is stopped by the filter and by nothing else.
    if rustix::process::getuid().is_root() {
        let unmoved: Vec<_> = with
            .iter()
            .filter(|(name, result)| !name.starts_with("allowed") && without[*name] == **result)
            .collect();
        ensure!(unmoved.is_empty(), "refused without the filter, too: {unmoved:?}");
    }
    Ok(())
}

#[test]
fn the_filter_reaches_grandchildren_and_threads() -> Result<()> {
    require!(Python);
    let agent = Setup::new()?.args(&["--seccomp", "required"]).start()?;
    let reply =
        agent.shell("sh -c 'grep ^Seccomp: /proc/self/status'; grep NoNewPrivs /proc/$$/status")?;
    assert_eq!(text(&reply, "stdout")?, "Seccomp:\t2\nNoNewPrivs:\t1\n");
    let line = "import threading, subprocess as s\n\
                t = threading.Thread(target=lambda: print(s.check_output(['echo', 'threads start']).decode(), end=''))\n\
                t.start(); t.join()";
    let reply = agent.exec(&json!({ "argv": ["python3", "-c", line] }))?;
    assert_eq!(text(&reply, "stdout")?, "threads start\n", "{reply}");
    Ok(())
}

fn states(agent: &Agent) -> Result<[Value; 2]> {
    let info = agent.client.get("/v1/info")?.json()?["seccomp"].clone();
    let ready = agent.client.get("/readyz")?.json()?["seccomp"].clone();
    Ok([info, ready])
}

#[test]
fn the_state_is_told_everywhere() -> Result<()> {
    for (mode, state) in [("required", "active"), ("auto", "active"), ("off", "off")] {
        let agent = Setup::new()?.args(&["--seccomp", mode]).start()?;
        assert_eq!(states(&agent)?, [json!(state), json!(state)]);
        let metrics = agent.client.get("/metrics")?.text();
        ensure!(metrics.contains(&format!("workspace_agent_seccomp{{state=\"{state}\"}} 1")));
    }
    Ok(())
}

/// The same command with seccomp(2) refused, as on a kernel without it.
fn without_seccomp(command: &Command) -> Command {
    let mut traced = Command::new("strace");
    // -D: the agent, not strace, is the child that ends with the test.
    traced.args(["-D", "-f", "-o", "/dev/null", "-e", "trace=seccomp"]);
    traced.args(["-e", "inject=seccomp:error=EINVAL"]);
    traced.arg(command.get_program()).args(command.get_args());
    traced
}

#[test]
fn required_fails_closed_where_the_kernel_has_no_filters() -> Result<()> {
    require!(Strace);
    let setup = Setup::new()?.args(&["--seccomp", "required"]);
    let said = refusal(without_seccomp(&setup.command()))?;
    ensure!(said.contains("seccomp filter") && said.contains("--seccomp auto"), "{said}");
    Ok(())
}

#[test]
fn auto_goes_on_without_the_filter_and_says_so() -> Result<()> {
    require!(Strace);
    let setup = Setup::new()?.args(&["--seccomp", "auto"]);
    let command = without_seccomp(&setup.command());
    let agent = setup.start_as(command)?;
    assert_eq!(states(&agent)?, [json!("unavailable"), json!("unavailable")]);
    ensure!(agent.daemon.stderr().contains("seccomp"), "{}", agent.daemon.stderr());
    Ok(())
}
