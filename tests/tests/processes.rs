//! Detached commands over the Unix socket: nothing is lost on a reconnect, nobody waits for a reader,
//! nobody survives a kill.

use std::fs;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use workspace_tests::{
    agent::{Agent, Setup, text},
    commands::{Follower, alive, bytes, delete, ended, last, output, pids, show, start, stream},
    gvisor,
    http::Response,
    require,
    wait::eventually,
};

/// What an agent keeps of each stream by default.
const KEPT: u64 = 1 << 20;

#[test]
fn a_command_is_started_listed_and_its_output_read_after_its_end() -> Result<()> {
    let agent = Agent::start()?;
    let id = start(&agent, &json!({ "argv": ["sh", "-c", "echo out; echo err >&2; exit 3"] }))?;
    let shown = ended(&agent, &id)?;
    assert_eq!((&shown["argv0"], &shown["exit_code"]), (&json!("sh"), &json!(3)));
    assert_eq!((&shown["timed_out"], &shown["left_running"]), (&json!(false), &json!(0)));
    ensure!(text(&shown, "started_at")?.ends_with('Z') && shown["duration_ms"].is_u64(), "{shown}");
    ensure!(!shown.to_string().contains("echo"), "the arguments are shown: {shown}");
    let second = start(&agent, &json!({ "shell": "cat", "stdin_open": true }))?;
    let list = agent.client.get("/v1/processes")?.json()?;
    let listed = list["processes"].as_array().context("no list")?;
    let ids: Vec<&Value> = listed.iter().map(|process| &process["id"]).collect();
    assert_eq!(ids, [&json!(id), &json!(second)]);
    assert_eq!((&listed[1]["state"], &listed[1]["exit_code"]), (&json!("running"), &Value::Null));
    for query in ["", "?follow=true"] {
        let events = output(&agent, &id, query)?;
        assert_eq!(stream(&events, "stdout", 0)?, b"out\n");
        assert_eq!(stream(&events, "stderr", 0)?, b"err\n");
        let end = last(&events)?;
        assert_eq!((&end["event"], &end["exit_code"]), (&json!("exited"), &json!(3)));
        assert_eq!((&end["stdout_bytes"], &end["stderr_bytes"]), (&json!(4), &json!(4)));
    }
    let events = output(&agent, &id, "?stdout_from=2&stderr_from=4")?;
    assert_eq!(stream(&events, "stdout", 2)?, b"t\n");
    assert_eq!(stream(&events, "stderr", 4)?, b"");
    Ok(())
}

#[test]
fn standard_input_is_fed_and_what_runs_is_read_without_waiting() -> Result<()> {
    let agent = Agent::start()?;
    let id = start(&agent, &json!({ "argv": ["cat"], "stdin_open": true }))?;
    assert_eq!(output(&agent, &id, "")?, [json!({ "event": "open" })]);
    let mut follower = Follower::open(&agent.client, &id, "")?;
    let stdin = format!("/v1/processes/{id}/stdin");
    // The second half of a character comes later.
    agent.client.send("POST", &stdin, b"a\xe2\x82")?;
    let event = follower.next_event()?.context("no event")?;
    assert_eq!(event, json!({ "event": "stdout", "offset": 0, "data": "a" }));
    let events = output(&agent, &id, "")?;
    assert_eq!(events, [event, json!({ "event": "open" })]);
    agent.client.send("POST", &format!("{stdin}?eof=true"), b"\xac\n")?;
    let events = follower.rest()?;
    assert_eq!(events[0], json!({ "event": "stdout", "offset": 1, "data": "€\n" }));
    assert_eq!((&last(&events)?["event"], events.len()), (&json!("exited"), 2));
    Ok(())
}

#[test]
fn a_reader_that_stops_holds_up_neither_the_command_nor_another_reader() -> Result<()> {
    let agent = Agent::start()?;
    // 24 MB in portions, each only when it is asked for; so the reader that goes on misses nothing.
    let script = "while read -r n; do head -c 500000 /dev/zero | tr '\\0' x; done";
    let id = start(&agent, &json!({ "shell": script, "stdin_open": true }))?;
    let mut stopped = Follower::open(&agent.client, &id, "")?;
    let mut reading = Follower::open(&agent.client, &id, "")?;
    let stdin = format!("/v1/processes/{id}/stdin");
    let mut position = 0;
    for portion in 1..=48_u64 {
        agent.client.send("POST", &stdin, b"go\n")?;
        while position < portion * 500_000 {
            let event = reading.next_event()?.context("the stream ended")?;
            ensure!(event["event"] == "stdout" && event["offset"] == position, "{event}");
            position += u64::try_from(bytes(&event)?.len())?;
        }
    }
    agent.client.send("POST", &format!("{stdin}?eof=true"), b"")?;
    assert_eq!(ended(&agent, &id)?["stdout_bytes"], 24_000_000);
    assert_eq!(last(&reading.rest()?)?["event"], "exited");
    // What the sockets held, a stated gap, and what is still kept.
    let events = stopped.rest()?;
    let mut position = 0;
    let mut gaps = 0;
    for event in &events[..events.len() - 1] {
        if event["event"] == "gap" {
            assert_eq!(event["from"], position);
            position = event["to"].as_u64().context("no offset")?;
            gaps += 1;
        } else {
            assert_eq!(event["offset"], position);
            position += u64::try_from(bytes(event)?.len())?;
        }
    }
    assert_eq!(position, 24_000_000);
    ensure!(gaps > 0, "nothing was missed");
    Ok(())
}

#[test]
fn a_reader_that_comes_back_goes_on_where_it_was() -> Result<()> {
    let agent = Agent::start()?;
    let script = "seq 1 1000; read -r go; seq 1001 2000; echo err >&2";
    let id = start(&agent, &json!({ "shell": script, "stdin_open": true }))?;
    let mut follower = Follower::open(&agent.client, &id, "")?;
    let mut first = Vec::new();
    while !first.ends_with(b"1000\n") {
        first.extend(bytes(&follower.next_event()?.context("the stream ended")?)?);
    }
    drop(follower);
    agent.client.send("POST", &format!("/v1/processes/{id}/stdin?eof=true"), b"go\n")?;
    let from = u64::try_from(first.len())?;
    let events = Follower::open(&agent.client, &id, &format!("&stdout_from={from}"))?.rest()?;
    first.extend(stream(&events, "stdout", from)?);
    let expected: String = (1..=2000).map(|number| format!("{number}\n")).collect();
    assert_eq!(String::from_utf8(first)?, expected);
    assert_eq!(stream(&events, "stderr", 0)?, b"err\n");
    assert_eq!(last(&events)?["event"], "exited");
    Ok(())
}

#[test]
fn a_gap_is_stated_for_what_is_kept_no_more() -> Result<()> {
    let agent = Agent::start()?;
    let script = "head -c 3145728 /dev/zero | tr '\\0' x; echo end";
    let id = start(&agent, &json!({ "shell": script }))?;
    ended(&agent, &id)?;
    let events = output(&agent, &id, "?stdout_from=5")?;
    let (written, kept_from) = (3 * KEPT + 4, 2 * KEPT + 4);
    let gap = json!({ "event": "gap", "stream": "stdout", "from": 5, "to": kept_from });
    assert_eq!(events[0], gap);
    let kept = stream(&events, "stdout", kept_from)?;
    ensure!(u64::try_from(kept.len())? == KEPT && kept.ends_with(b"xend\n"), "{}", kept.len());
    assert_eq!(last(&events)?["stdout_bytes"], written);
    let small = start(&agent, &json!({ "shell": "echo 0123456789", "max_output_bytes": 4 }))?;
    ended(&agent, &small)?;
    assert_eq!(stream(&output(&agent, &small, "")?, "stdout", 7)?, b"789\n");
    Ok(())
}

#[test]
fn a_start_can_be_repeated_under_an_id_of_the_clients() -> Result<()> {
    let agent = Agent::start()?;
    let body = json!({ "id": "job-1", "shell": "echo run >> runs; cat", "stdin_open": true });
    let first = agent.client.send_json("POST", "/v1/processes", &body)?;
    assert_eq!((first.status(), &first.json()?["id"]), (201, &json!("job-1")));
    // Another order of the keys is no other request.
    let again = r#"{"stdin_open":true, "shell":"echo run >> runs; cat", "id":"job-1"}"#;
    let again = agent.client.send("POST", "/v1/processes", again.as_bytes())?;
    assert_eq!((again.status(), again.json()?), (200, first.json()?));
    let other = json!({ "id": "job-1", "shell": "echo other" });
    let refused = agent.client.send_json("POST", "/v1/processes", &other)?;
    assert_eq!((refused.status(), refused.problem_code()?.as_str()), (409, "id_in_use"));
    agent.client.send("POST", "/v1/processes/job-1/stdin?eof=true", b"")?;
    ended(&agent, "job-1")?;
    assert_eq!(agent.client.send_json("POST", "/v1/processes", &body)?.status(), 200);
    assert_eq!(fs::read_to_string(agent.root().join("runs"))?, "run\n");
    // An id of the agent's own making cannot be chosen, used or not.
    let own = start(&agent, &json!({ "argv": ["true"] }))?;
    let taken = json!({ "id": format!("{own}9"), "argv": ["true"] });
    let refused = agent.client.send_json("POST", "/v1/processes", &taken)?;
    assert_eq!((refused.status(), refused.problem_code()?.as_str()), (400, "bad_id"));
    Ok(())
}

#[test]
fn of_many_starts_at_once_under_one_id_one_runs() -> Result<()> {
    let agent = Agent::start()?;
    let body = json!({ "id": "once", "shell": "echo $$ >> started" });
    let replies: Result<Vec<Response>> = std::thread::scope(|scope| {
        let start = || agent.client.send_json("POST", "/v1/processes", &body);
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let replies = replies?;
    assert_eq!(replies.iter().filter(|reply| reply.status() == 201).count(), 1);
    assert_eq!(replies.iter().filter(|reply| reply.status() == 200).count(), 15);
    ended(&agent, "once")?;
    assert_eq!(fs::read_to_string(agent.root().join("started"))?.lines().count(), 1);
    Ok(())
}

#[test]
fn signals_go_to_the_leader_or_to_the_tree() -> Result<()> {
    let agent = Agent::start()?;
    let script = "trap 'echo leader' USR1; \
                  (trap 'echo child; exit' USR1; echo $$ >> ready; while :; do sleep 0.01; done) & \
                  echo $$ >> ready; while kill -0 $! 2> /dev/null; do wait $!; done; exit 7";
    let id = start(&agent, &json!({ "shell": script }))?;
    pids(&agent, "ready", 2)?;
    let mut follower = Follower::open(&agent.client, &id, "")?;
    let signal =
        |body: Value| agent.client.json("POST", &format!("/v1/processes/{id}/signal"), &body);
    let reply = signal(json!({ "signal": "SIGUSR1", "scope": "leader" }))?;
    assert_eq!(reply, json!({ "signalled": 1 }));
    assert_eq!(follower.next_event()?.context("no event")?["data"], "leader\n");
    let reply = signal(json!({ "signal": "SIGUSR1" }))?;
    ensure!(reply["signalled"].as_u64() >= Some(2), "{reply}");
    let events = follower.rest()?;
    let said = String::from_utf8(stream(&events, "stdout", 7)?)?;
    ensure!(said.contains("leader\n") && said.contains("child\n"), "{said}");
    assert_eq!(last(&events)?["exit_code"], 7);
    // Nobody is left to be signalled.
    for scope in ["tree", "leader"] {
        let reply = signal(json!({ "signal": "SIGKILL", "scope": scope }))?;
        assert_eq!(reply, json!({ "signalled": 0 }), "{scope}");
    }
    Ok(())
}

#[test]
fn a_delete_ends_what_ignores_term_and_what_left_the_session() -> Result<()> {
    let agent = Agent::start()?;
    let script = "trap '' TERM; echo $$ >> pids; \
                  setsid sh -c 'trap \"\" TERM; echo $$ >> pids; while :; do sleep 600; done' & \
                  env -i /bin/sh -c 'echo $$ >> pids; exec /bin/sleep 600' & \
                  while :; do sleep 600; done";
    let id = start(&agent, &json!({ "shell": script, "kill_grace_ms": 600_000 }))?;
    let pids = pids(&agent, "pids", 3)?;
    let reply = delete(&agent, &id, "?grace_ms=100")?;
    assert_eq!(reply.status(), 200, "{}", reply.text());
    let reply = reply.json()?;
    assert_eq!(reply["survivors"], 0);
    ensure!(reply["killed"].as_u64() >= Some(3), "{reply}");
    ensure!(!pids.iter().any(|pid| alive(&agent, pid)), "{pids:?}");
    let shown = show(&agent, &id)?;
    assert_eq!((&shown["state"], &shown["signal"]), (&json!("ended"), &json!("SIGKILL")));
    let again = delete(&agent, &id, "")?.json()?;
    assert_eq!(again, json!({ "killed": 0, "survivors": 0 }));
    Ok(())
}

#[test]
fn a_second_delete_can_make_the_end_come_sooner() -> Result<()> {
    let agent = Agent::start()?;
    let script = "trap 'echo asked > asked' TERM; echo $$ > pids; while :; do sleep 0.01; done";
    let id = start(&agent, &json!({ "shell": script }))?;
    pids(&agent, "pids", 1)?;
    std::thread::scope(|scope| {
        let patient = scope.spawn(|| delete(&agent, &id, "?grace_ms=600000"));
        eventually("TERM has come", || agent.root().join("asked").exists().then_some(()))?;
        let hurried = delete(&agent, &id, "?grace_ms=0")?;
        assert_eq!(hurried.status(), 200);
        assert_eq!(patient.join().expect("no panic")?.status(), 200);
        Ok(())
    })
}

#[test]
fn a_delete_ends_what_a_command_has_left_running() -> Result<()> {
    let agent = Agent::start()?;
    // The second one has lost its parent and its mark; its session tells whose it is.
    let script = "sleep 600 & echo $! >> pids; env -i /bin/sleep 600 & echo $! >> pids";
    let id = start(&agent, &json!({ "shell": script }))?;
    assert_eq!(ended(&agent, &id)?["left_running"], 2);
    let pids = pids(&agent, "pids", 2)?;
    ensure!(pids.iter().all(|pid| alive(&agent, pid)), "{pids:?}");
    let reply = delete(&agent, &id, "")?.json()?;
    assert_eq!(reply, json!({ "killed": 2, "survivors": 0 }));
    ensure!(!pids.iter().any(|pid| alive(&agent, pid)), "{pids:?}");
    Ok(())
}

#[test]
fn what_has_ended_is_bounded_and_its_id_free_again() -> Result<()> {
    let agent = Setup::new()?.args(&["--keep-ended", "2"]).start()?;
    for id in ["a", "b", "c"] {
        start(&agent, &json!({ "id": id, "argv": ["true"] }))?;
        ended(&agent, id)?;
    }
    let list = agent.client.get("/v1/processes")?.json()?;
    let ids: Vec<&Value> =
        list["processes"].as_array().context("no list")?.iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, ["b", "c"]);
    let gone = agent.client.get("/v1/processes/a/output")?;
    assert_eq!((gone.status(), gone.problem_code()?.as_str()), (404, "no_such_process"));
    start(&agent, &json!({ "id": "a", "shell": "exit 1" }))?;
    let forgetful = Setup::new()?.args(&["--keep-ended-for", "0s"]).start()?;
    start(&forgetful, &json!({ "id": "a", "argv": ["true"] }))?;
    eventually("it is forgotten", || {
        let reply = forgetful.client.get("/v1/processes/a").ok()?;
        (reply.status() == 404).then_some(())
    })
}

#[test]
fn detached_commands_count_against_the_limit_and_end_with_the_agent() -> Result<()> {
    let mut agent = Setup::new()?.args(&["--max-processes", "1"]).start()?;
    let script = "trap '' TERM; echo $$ > pids; while :; do sleep 600; done";
    let id = start(&agent, &json!({ "shell": script, "kill_grace_ms": 100 }))?;
    let pids = pids(&agent, "pids", 1)?;
    for path in ["/v1/processes", "/v1/exec"] {
        let refused = agent.client.send_json("POST", path, &json!({ "argv": ["true"] }))?;
        assert_eq!(refused.problem_code()?, "too_many_processes", "{path}");
    }
    let mut follower = Follower::open(&agent.client, &id, "")?;
    agent.signal(Signal::TERM)?;
    let end = follower.rest()?;
    let end = last(&end)?;
    assert_eq!((&end["event"], &end["signal"]), (&json!("exited"), &json!("SIGKILL")));
    ensure!(agent.daemon.wait()?.success(), "{}", agent.daemon.output());
    assert_eq!(agent.outlived_by(&pids), [] as [String; 0]);
    Ok(())
}

#[test]
fn the_command_line_lists_reads_signals_and_ends() -> Result<()> {
    let agent = Agent::start()?;
    let script =
        "trap 'echo hup; exit 4' HUP; echo out; echo err >&2; while :; do sleep 0.01; done";
    for id in ["one", "two"] {
        start(&agent, &json!({ "id": id, "shell": script }))?;
        let written = |shown: &Value| shown["stdout_bytes"] == 4 && shown["stderr_bytes"] == 4;
        eventually("it has written", || show(&agent, id).ok().filter(written))?;
    }
    let logs = agent.run_cli("logs", &["one"])?;
    assert_eq!((&logs.stdout[..], &logs.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    let said = agent.run_cli("kill", &["--signal", "HUP", "--leader", "one"])?;
    assert_eq!(said.stdout, b"signalled 1\n");
    let logs = agent.run_cli("logs", &["-f", "one"])?;
    assert_eq!(logs.stdout, b"out\nhup\n");
    let said = String::from_utf8(agent.run_cli("kill", &["two"])?.stdout)?;
    ensure!(said.starts_with("killed ") && said.ends_with(", survivors 0\n"), "{said}");
    let list = String::from_utf8(agent.run_cli("ps", &[])?.stdout)?;
    ensure!(list.lines().count() == 2 && list.contains(" ended   4 "), "{list}");
    let list: Value = serde_json::from_slice(&agent.run_cli("ps", &["--json"])?.stdout)?;
    assert_eq!(list["processes"][1]["signal"], "SIGTERM");
    let unknown = agent.cli("kill").arg("none").output()?;
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    ensure!(unknown.status.code() == Some(125) && said.contains("no_such_process"), "{said}");
    Ok(())
}

#[test]
fn what_makes_no_sense_is_refused_with_its_code() -> Result<()> {
    let agent = Agent::start()?;
    let id = start(&agent, &json!({ "argv": ["cat"], "stdin_open": true }))?;
    let one = format!("/v1/processes/{id}");
    let (all, output) = ("/v1/processes", format!("{one}/output"));
    let signal = format!("{one}/signal");
    for (method, target, body, expected) in [
        ("POST", all.to_owned(), r#"{"argv":["true"],"x":1}"#, (400, "bad_json")),
        ("POST", all.to_owned(), r#"{"argv":["true"],"id":"a/b"}"#, (400, "bad_id")),
        ("POST", all.to_owned(), r#"{"argv":["/no/such"]}"#, (422, "command_not_found")),
        ("POST", format!("{all}?x=1"), r#"{"argv":["true"]}"#, (400, "bad_query")),
        ("POST", format!("{all}?background=x"), r#"{"argv":["true"]}"#, (400, "bad_query")),
        ("PUT", all.to_owned(), "", (405, "method_not_allowed")),
        ("POST", one.clone(), "", (405, "method_not_allowed")),
        ("GET", format!("{all}?x=1"), "", (400, "bad_query")),
        ("GET", format!("{one}?x=1"), "", (400, "bad_query")),
        ("GET", format!("{output}?from=1"), "", (400, "bad_query")),
        ("GET", format!("{output}?stdout_from=1"), "", (400, "out_of_range")),
        ("DELETE", output.clone(), "", (405, "method_not_allowed")),
        ("DELETE", format!("{one}?grace_ms=600001"), "", (400, "out_of_range")),
        ("DELETE", format!("{one}?grace_ms=x"), "", (400, "bad_query")),
        ("GET", signal.clone(), "", (405, "method_not_allowed")),
        ("POST", signal.clone(), r#"{"signal":"SIGNONE"}"#, (400, "bad_signal")),
        ("POST", signal.clone(), r#"{"signal":"SIGTERM","scope":"all"}"#, (400, "bad_json")),
        ("POST", signal.clone(), r#"{"signal":"SIGTERM","x":1}"#, (400, "bad_json")),
        ("GET", format!("{all}/none"), "", (404, "no_such_process")),
        ("GET", format!("{all}/none/output"), "", (404, "no_such_process")),
        ("DELETE", format!("{all}/none"), "", (404, "no_such_process")),
        ("POST", format!("{all}/none/signal"), r#"{"signal":"SIGTERM"}"#, (404, "no_such_process")),
        ("POST", format!("{all}/none/stdin"), "", (404, "no_such_stdin")),
        ("GET", format!("{one}/none"), "", (404, "no_such_endpoint")),
    ] {
        let reply = agent.client.send(method, &target, body.as_bytes())?;
        let code = reply.problem_code().with_context(|| format!("{method} {target} {body}"))?;
        assert_eq!((reply.status(), code.as_str()), expected, "{method} {target} {body}");
    }
    assert_eq!(show(&agent, &id)?["state"], "running");
    Ok(())
}

#[test]
fn all_of_it_holds_under_gvisor() -> Result<()> {
    require!(Gvisor);
    gvisor::rerun("all_of_it_holds_under_gvisor", &[])
}
