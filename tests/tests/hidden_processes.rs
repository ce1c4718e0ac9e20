//! Processes that hide whose they are: they leave the session, clear their environment and lose their
//! parent before anybody looks. Those of a command that is alone are found, and nobody else's.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use workspace_tests::{
    agent::{Agent, Setup, text},
    commands::{alive, delete, ended, pids, show, start},
    wait::eventually,
};

/// Ends when its daemon has hidden and named itself in a file.
fn hiding(file: &str) -> Value {
    let daemon = format!("echo $$ > {file}; exec sleep 600");
    let hides = format!("(env -i setsid sh -c '{daemon}' > /dev/null 2>&1 &)");
    json!({ "shell": format!("{hides}; until test -s {file}; do sleep 0.01; done") })
}

/// Without cgroups, which nothing hides from.
fn agent() -> Result<Agent> {
    Setup::new()?.args(&["--cgroup", "off"]).start()
}

fn only_pid(agent: &Agent, file: &str) -> Result<String> {
    pids(agent, file, 1)?.pop().context("no process")
}

#[test]
fn a_process_that_hides_is_found_if_its_command_is_alone() -> Result<()> {
    let agent = agent()?;
    assert_eq!(agent.shell("true")?["exit_code"], 0);
    let reply = agent.exec(&hiding("one"))?;
    let daemon = only_pid(&agent, "one")?;
    assert_eq!((&reply["left_running"], alive(&agent, &daemon)), (&json!(1), true));
    // Others come, and it stays whose it was.
    let other = start(&agent, &json!({ "shell": "read -r go", "stdin_open": true }))?;
    assert_eq!(delete(&agent, &other, "?grace_ms=0")?.json()?["killed"], 1);
    assert_eq!(
        (&ended(&agent, &other)?["left_running"], alive(&agent, &daemon)),
        (&json!(0), true)
    );
    let killed = delete(&agent, text(&reply, "id")?, "")?.json()?;
    assert_eq!(killed, json!({ "killed": 1, "survivors": 0 }));
    assert!(!alive(&agent, &daemon));
    // An agent that has no children any more knows that nothing is left.
    eventually("it is collected", || {
        fs::read_to_string(format!("/proc/{daemon}/stat")).is_err().then_some(())
    })?;
    let reply = agent.client.json("POST", "/v1/exec?background=kill", &hiding("two"))?;
    assert_eq!((&reply["killed"], &reply["left_running"]), (&json!(1), &json!(0)));
    assert!(!alive(&agent, &only_pid(&agent, "two")?));
    Ok(())
}

#[test]
fn a_process_that_hides_is_nobodys_if_two_commands_can_have_made_it() -> Result<()> {
    let agent = agent()?;
    let waits = json!({ "shell": "read -r go", "stdin_open": true });
    let beside = start(&agent, &waits)?;
    let reply = agent.exec(&hiding("one"))?;
    let daemon = only_pid(&agent, "one")?;
    assert_eq!(reply["left_running"], 0);
    assert_eq!(delete(&agent, text(&reply, "id")?, "")?.json()?["killed"], 0);
    assert_eq!(delete(&agent, &beside, "?grace_ms=0")?.json()?["killed"], 1);
    // It was there before this one.
    let after = start(&agent, &waits)?;
    assert_eq!(show(&agent, &after)?["state"], "running");
    assert_eq!(delete(&agent, &after, "?grace_ms=0")?.json()?["killed"], 1);
    assert!(alive(&agent, &daemon));
    // With the agent it ends.
    let gone = [daemon];
    agent.signal(rustix::process::Signal::TERM)?;
    let mut agent = agent;
    agent.daemon.wait()?;
    assert_eq!(agent.outlived_by(&gone), [] as [String; 0]);
    Ok(())
}
