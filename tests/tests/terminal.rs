//! Commands with a terminal, and clients that are attached to commands.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use workspace_tests::{
    agent::{Agent, Setup},
    attached::{Attached, Incoming},
    commands::{
        Follower, alive, bytes, delete, ended, last, output, pids, show, stands_still, start,
    },
    gvisor, require,
    wait::eventually,
};

/// The kind of output that came out of a terminal, in binary messages and frames.
const PTY: u8 = 3;

fn terminal(script: &str) -> Value {
    json!({ "argv": ["bash", "-c", script], "tty": { "rows": 30, "cols": 100 } })
}

fn resize(agent: &Agent, id: &str, body: &Value) -> Result<(u16, Value)> {
    let reply = agent.client.send_json("POST", &format!("/v1/processes/{id}/resize"), body)?;
    Ok((reply.status(), reply.json()?))
}

/// Follows a command until its output contains `text`.
fn until(follower: &mut Follower, text: &str) -> Result<String> {
    let mut said = String::new();
    while !said.contains(text) {
        let event = follower.next_event()?.with_context(|| format!("no '{text}' in {said}"))?;
        ensure!(event["event"] == "pty", "{event}");
        said += &String::from_utf8_lossy(&bytes(&event)?);
    }
    Ok(said)
}

#[test]
fn a_terminal_is_the_input_the_output_and_the_controlling_terminal() -> Result<()> {
    let agent = Agent::start()?;
    let script = "stty size; test -t 0 && test -t 1 && test -t 2 && echo all; echo $TERM; \
                  echo over > /dev/tty; ps -o sess= -p $$; echo $$; exit 5";
    let reply = agent.exec(&terminal(script))?;
    let said = reply["stdout"].as_str().context("no output")?;
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words[..5], ["30", "100", "all", "xterm-256color", "over"]);
    assert_eq!(words[5], words[6], "it leads its session");
    assert_eq!((&reply["exit_code"], &reply["stderr_bytes"]), (&json!(5), &json!(0)));
    Ok(())
}

#[test]
fn a_resize_is_told_to_the_foreground() -> Result<()> {
    let agent = Agent::start()?;
    let script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done";
    let id = start(&agent, &terminal(script))?;
    let mut follower = Follower::open(&agent.client, &id, "")?;
    until(&mut follower, "ready")?;
    let (status, answer) = resize(&agent, &id, &json!({ "rows": 50, "cols": 120 }))?;
    assert_eq!((status, answer), (200, json!({ "rows": 50, "cols": 120 })));
    until(&mut follower, "50 120")?;
    assert_eq!(last(&follower.rest()?)?["exit_code"], 0);
    let late = resize(&agent, &id, &json!({ "rows": 1, "cols": 1 }))?;
    assert_eq!((late.0, &late.1["code"]), (409, &json!("not_running")));
    let plain = start(&agent, &json!({ "argv": ["cat"], "stdin_open": true }))?;
    let none = resize(&agent, &plain, &json!({ "rows": 1, "cols": 1 }))?;
    assert_eq!((none.0, &none.1["code"]), (409, &json!("no_tty")));
    let flat = resize(&agent, &plain, &json!({ "rows": 0, "cols": 1 }))?;
    assert_eq!((flat.0, &flat.1["code"]), (400, &json!("out_of_range")));
    Ok(())
}

#[test]
fn control_c_reaches_the_foreground_group_and_the_shell_goes_on() -> Result<()> {
    let agent = Agent::start()?;
    let id = start(
        &agent,
        &json!({ "argv": ["bash", "--norc", "-i"], "env": { "PS1": "> " },
                 "tty": { "rows": 24, "cols": 80 } }),
    )?;
    let mut attached = Attached::open(&agent, &id, "")?;
    let event = attached.event()?;
    assert_eq!((&event["event"], &event["tty"]), (&json!("attached"), &json!(true)));
    let mut position = u64::try_from(attached.until(0, "> ")?.len())?;
    let mut exchange = |input: &str, until: &str| -> Result<String> {
        attached.type_in(input.as_bytes())?;
        let said = attached.until(position, until)?;
        position += u64::try_from(said.len())?;
        Ok(said)
    };
    exchange("sh -c 'echo $$ > pid; echo go; exec sleep 600'\r", "go\r\n")?;
    let sleeping = pids(&agent, "pid", 1)?;
    exchange("\u{3}", "> ")?;
    eventually("the interrupted one has gone", || (!alive(&agent, &sleeping[0])).then_some(()))?;
    let said = exchange("echo $((6 * 7))\r", "42\r\n")?;
    ensure!(said.contains("42"), "{said}");
    attached.type_in(b"exit 7\r")?;
    assert_eq!(attached.event()?["exit_code"], 7);
    assert_eq!(attached.receive()?, Incoming::Closed(1000, String::new()));
    Ok(())
}

#[test]
fn an_attached_client_sees_what_was_and_comes_back_where_it_left() -> Result<()> {
    let agent = Agent::start()?;
    let script =
        "echo one; echo two >&2; while read -r line; do echo \"got $line\"; done; echo end";
    let id = start(&agent, &json!({ "shell": script, "stdin_open": true }))?;
    eventually("both were written", || {
        let shown = show(&agent, &id).ok()?;
        (shown["stdout_bytes"] == 4 && shown["stderr_bytes"] == 4).then_some(())
    })?;
    let mut first = Attached::open(&agent, &id, "")?;
    assert_eq!(first.event()?["event"], "attached");
    assert_eq!(show(&agent, &id)?["attached"], 1);
    let mut seen = vec![first.receive()?, first.receive()?];
    seen.sort_by_key(|incoming| matches!(incoming, Incoming::Output(2, ..)));
    let expected =
        [Incoming::Output(1, 0, b"one\n".to_vec()), Incoming::Output(2, 0, b"two\n".to_vec())];
    assert_eq!(seen, expected);
    first.type_in(b"a\n")?;
    assert_eq!(first.receive()?, Incoming::Output(1, 4, b"got a\n".to_vec()));
    drop(first);
    eventually("the first has gone", || (show(&agent, &id).ok()?["attached"] == 0).then_some(()))?;
    let mut second = Attached::open(&agent, &id, "?stdout_from=10&stderr_from=4")?;
    assert_eq!(second.event()?["id"], json!(id));
    second.type_in(b"b\n")?;
    assert_eq!(second.receive()?, Incoming::Output(1, 10, b"got b\n".to_vec()));
    second.say(r#"{"eof":true}"#)?;
    assert_eq!(second.receive()?, Incoming::Output(1, 16, b"end\n".to_vec()));
    assert_eq!(second.event()?["event"], "exited");
    Ok(())
}

#[test]
fn an_attached_client_signals_and_resizes() -> Result<()> {
    let agent = Agent::start()?;
    let script = "trap 'echo hup' HUP; trap 'stty size' WINCH; echo ready; \
                  while :; do sleep 0.01; done";
    let id = start(&agent, &terminal(script))?;
    let mut attached = Attached::open(&agent, &id, "")?;
    attached.event()?;
    let mut position = u64::try_from(attached.until(0, "ready\r\n")?.len())?;
    for (said, heard) in [
        (r#"{"signal":"SIGHUP","scope":"leader"}"#, "hup\r\n"),
        (r#"{"resize":{"rows":11,"cols":22}}"#, "11 22\r\n"),
    ] {
        attached.say(said)?;
        position += u64::try_from(attached.until(position, heard)?.len())?;
    }
    attached.say(r#"{"signal":"SIGKILL"}"#)?;
    assert_eq!(attached.event()?["signal"], "SIGKILL");
    Ok(())
}

#[test]
fn nonsense_closes_the_connection_with_a_reason_and_leaves_the_command_alone() -> Result<()> {
    let agent = Agent::start()?;
    let id = start(&agent, &json!({ "argv": ["cat"], "stdin_open": true }))?;
    for said in [
        "",
        "{}",
        "[]",
        r#"{"resize":{"rows":1,"cols":1}}"#,
        r#"{"eof":false}"#,
        r#"{"x":1}"#,
        r#"{"signal":"SIGNONE"}"#,
        r#"{"signal":"SIGTERM","eof":true}"#,
    ] {
        let mut attached = Attached::open(&agent, &id, "")?;
        attached.event()?;
        attached.say(said)?;
        let closed = attached.receive()?;
        let Incoming::Closed(1008, reason) = &closed else { panic!("{said}: {closed:?}") };
        ensure!(!reason.is_empty(), "{said}");
    }
    assert_eq!(show(&agent, &id)?["state"], "running");
    for (query, expected) in [("", (426, "upgrade_required")), ("?x=1", (400, "bad_query"))] {
        let plain = agent.client.get(&format!("/v1/processes/{id}/attach{query}"))?;
        assert_eq!((plain.status(), plain.problem_code()?.as_str()), expected);
    }
    Ok(())
}

#[test]
fn the_last_attached_client_takes_the_command_with_it_where_that_is_wanted() -> Result<()> {
    let agent = Agent::start()?;
    let script = "trap '' HUP; echo ready; sleep 600";
    let mut killed = terminal(script);
    killed["on_disconnect"] = json!("kill");
    let id = start(&agent, &killed)?;
    let mut first = Attached::open(&agent, &id, "")?;
    first.event()?;
    first.until(0, "ready")?;
    let mut second = Attached::open(&agent, &id, "")?;
    second.event()?;
    drop(first);
    eventually("one is left", || (show(&agent, &id).ok()?["attached"] == 1).then_some(()))?;
    assert_eq!(show(&agent, &id)?["state"], "running");
    drop(second);
    assert_eq!(ended(&agent, &id)?["left_running"], 0);
    let kept = start(&agent, &terminal(script))?;
    let mut only = Attached::open(&agent, &kept, "")?;
    only.event()?;
    drop(only);
    eventually("it has gone", || (show(&agent, &kept).ok()?["attached"] == 0).then_some(()))?;
    assert_eq!(show(&agent, &kept)?["state"], "running");
    Ok(())
}

#[test]
fn an_attached_client_that_does_not_read_does_not_hold_the_stop_up() -> Result<()> {
    let mut agent = Setup::new()?.args(&["--drain-timeout", "1h"]).start()?;
    let mut body = terminal("yes");
    body["backpressure"] = json!(true);
    let id = start(&agent, &body)?;
    let mut attached = Attached::open(&agent, &id, "")?;
    attached.event()?;
    stands_still(&agent, &id)?;
    agent.signal(Signal::TERM)?;
    ensure!(agent.daemon.wait()?.success(), "{}", agent.daemon.output());
    Ok(())
}

#[test]
fn a_terminal_outlives_a_moment_without_users() -> Result<()> {
    let agent = Agent::start()?;
    let script = "exec < /dev/null > /dev/null 2>&1; sleep 0.1; exec < /dev/tty > /dev/tty 2>&1; \
                  seq 1 20000";
    let id = start(&agent, &terminal(script))?;
    assert_eq!(ended(&agent, &id)?["stdout_bytes"], 128_894);
    Ok(())
}

#[test]
fn input_that_nobody_reads_keeps_nothing_else_from_being_heard() -> Result<()> {
    let agent = Agent::start()?;
    let id = start(&agent, &json!({ "argv": ["sleep", "600"], "stdin_open": true }))?;
    let mut attached = Attached::open(&agent, &id, "")?;
    attached.event()?;
    for _ in 0..9 {
        attached.type_in(&[b'x'; 100_000])?;
    }
    attached.say(r#"{"signal":"SIGKILL"}"#)?;
    assert_eq!(attached.event()?["signal"], "SIGKILL");
    Ok(())
}

#[test]
fn the_end_of_input_is_typed() -> Result<()> {
    let agent = Agent::start()?;
    let id = start(&agent, &terminal("cat; echo; echo over"))?;
    let stdin = format!("/v1/processes/{id}/stdin");
    agent.client.send("POST", &format!("{stdin}?eof=true"), b"line\n")?;
    ended(&agent, &id)?;
    let events = output(&agent, &id, "")?;
    let said: Vec<u8> = events
        .iter()
        .filter(|event| event["event"] == "pty")
        .flat_map(|e| bytes(e).unwrap())
        .collect();
    let said = String::from_utf8(said)?;
    ensure!(said.contains("line\r\nline\r\n") && said.ends_with("over\r\n"), "{said}");
    Ok(())
}

#[test]
fn a_command_that_leaves_its_terminal_to_a_child_is_not_waited_for() -> Result<()> {
    let agent = Agent::start()?;
    let script = "trap '' HUP; (trap '' HUP TERM; echo $BASHPID > pid; exec sleep 600) & \
                  while ! test -s pid; do :; done; echo done";
    let id = start(&agent, &terminal(script))?;
    let shown = ended(&agent, &id)?;
    assert_eq!((&shown["exit_code"], &shown["left_running"]), (&json!(0), &json!(1)));
    let left = pids(&agent, "pid", 1)?;
    ensure!(alive(&agent, &left[0]), "the child was ended");
    let reply = delete(&agent, &id, "?grace_ms=0")?.json()?;
    assert_eq!(reply, json!({ "killed": 1, "survivors": 0 }));
    Ok(())
}

#[test]
fn frames_name_the_terminal() -> Result<()> {
    let agent = Agent::start()?;
    let id = start(&agent, &terminal("printf hi"))?;
    ended(&agent, &id)?;
    let client = agent.client.clone().with("accept", "application/vnd.workspace.frames");
    let reply = client.get(&format!("/v1/processes/{id}/output"))?;
    assert_eq!(reply.header("content-type"), Some("application/vnd.workspace.frames"));
    let head = [&[PTY, 0, 0, 0, 10][..], &[0; 8], b"hi"].concat();
    ensure!(reply.body.starts_with(&head), "{:?}", reply.body);
    Ok(())
}

#[test]
fn all_of_it_holds_under_gvisor() -> Result<()> {
    require!(Gvisor);
    gvisor::rerun("all_of_it_holds_under_gvisor", &[])
}
