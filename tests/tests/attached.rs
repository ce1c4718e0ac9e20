//! Commands that a caller waits for: by id, in frames, kept or ended when the caller goes, with and
//! without backpressure.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use workspace_tests::{
    agent::{Agent, Setup, text},
    commands::{Follower, alive, bytes, ended, last, output, pids, show, stands_still, stream},
    gvisor,
    http::Connection,
    require,
    wait::eventually,
};

const FRAMES: &str = "application/vnd.workspace.frames";

#[test]
fn a_repeat_of_an_exec_attaches_to_the_same_run() -> Result<()> {
    let agent = Agent::start()?;
    let body = json!({ "id": "job", "shell": "echo run >> runs; echo out; read -r go; exit 3",
                       "stdin_open": true, "on_disconnect": "keep" });
    let mut first = Follower::exec(&agent.client, &body)?;
    assert_eq!(first.next_event()?.context("no event")?["id"], "job");
    assert_eq!(first.next_event()?.context("no event")?["data"], "out\n");
    let other = json!({ "id": "job", "argv": ["true"] });
    let refused = agent.try_exec(&other)?;
    assert_eq!((refused.status(), refused.problem_code()?.as_str()), (409, "id_in_use"));
    drop(first);
    eventually("it is alone", || (show(&agent, "job").ok()?["attached"] == 0).then_some(()))?;
    let mut second = Follower::exec(&agent.client, &body)?;
    second.next_event()?;
    assert_eq!(second.next_event()?.context("no event")?["data"], "out\n");
    agent.client.send("POST", "/v1/processes/job/stdin?eof=true", b"go\n")?;
    assert_eq!(last(&second.rest()?)?["exit_code"], 3);
    let after = agent.exec(&body)?;
    assert_eq!((&after["stdout"], &after["exit_code"]), (&json!("out\n"), &json!(3)));
    assert_eq!(std::fs::read_to_string(agent.root().join("runs"))?, "run\n");
    Ok(())
}

#[test]
fn a_client_that_goes_ends_its_command_unless_it_is_to_be_kept() -> Result<()> {
    let agent = Agent::start()?;
    for (form, name) in [("application/json", "json"), ("application/x-ndjson", "lines")] {
        let client = agent.client.clone().with("accept", form);
        for (wish, survives) in [("kill", false), ("keep", true)] {
            let id = format!("{name}-{wish}");
            let script = format!(
                "trap 'echo asked; exit' TERM; echo $$ > {id}; echo hi; \
                                  while :; do sleep 0.01; done"
            );
            let body = json!({ "id": id, "shell": script, "on_disconnect": wish });
            let mut connection = Connection::open(client.endpoint())?;
            connection.send(&client.request("POST", "/v1/exec", body.to_string().as_bytes()))?;
            let pid = pids(&agent, &id, 1)?.remove(0);
            eventually("the client is attached", || {
                (show(&agent, &id).ok()?["attached"] == 1).then_some(())
            })?;
            drop(connection);
            eventually("it has gone", || (show(&agent, &id).ok()?["attached"] == 0).then_some(()))?;
            if survives {
                ensure!(alive(&agent, &pid) && show(&agent, &id)?["state"] == "running", "{id}");
            } else {
                ended(&agent, &id)?;
                assert_eq!(stream(&output(&agent, &id, "")?, "stdout", 0)?, b"hi\nasked\n");
            }
        }
    }
    Ok(())
}

#[test]
fn what_is_left_running_is_ended_on_demand() -> Result<()> {
    let agent = Agent::start()?;
    let body =
        json!({ "shell": "sleep 600 & echo $! >> pids; setsid sleep 600 & echo $! >> pids" });
    let reply = agent.client.json("POST", "/v1/exec?background=kill", &body)?;
    assert_eq!((&reply["killed"], &reply["left_running"]), (&json!(2), &json!(0)));
    assert_eq!(reply["survivors"], json!([]));
    let pids = pids(&agent, "pids", 2)?;
    ensure!(!pids.iter().any(|pid| alive(&agent, pid)), "{pids:?}");
    Ok(())
}

/// The frames of a body: kind and payload.
fn frames(body: &[u8]) -> Result<Vec<(u8, Vec<u8>)>> {
    let mut rest = body;
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let (head, tail) = rest.split_at_checked(5).context("half a head")?;
        let length = usize::try_from(u32::from_be_bytes(head[1..].try_into()?))?;
        let (payload, tail) = tail.split_at_checked(length).context("half a frame")?;
        frames.push((head[0], payload.to_vec()));
        rest = tail;
    }
    Ok(frames)
}

#[test]
fn frames_carry_any_bytes_as_they_are() -> Result<()> {
    let agent = Agent::start()?;
    let client = agent.client.clone().with("accept", FRAMES);
    let body = json!({ "shell": "printf 'a\\377\\000b'; printf e >&2" });
    let reply = client.send_json("POST", "/v1/exec", &body)?;
    assert_eq!((reply.status(), reply.header("content-type")), (200, Some(FRAMES)));
    let frames = frames(&reply.body)?;
    let event = |at: usize| serde_json::from_slice::<Value>(&frames[at].1);
    assert_eq!((frames[0].0, &event(0)?["event"]), (0, &json!("started")));
    let end = frames.len() - 1;
    assert_eq!((frames[end].0, &event(end)?["event"]), (0, &json!("exited")));
    ensure!(frames.contains(&(1, [&[0; 8][..], b"a\xff\0b"].concat())), "{frames:?}");
    ensure!(frames.contains(&(2, [&[0; 8][..], b"e"].concat())), "{frames:?}");
    Ok(())
}

/// A megabyte or so, ten times what sockets hold.
const LARGE: &str = "head -c 16000000 /dev/zero | tr '\\0' x; echo end";

#[test]
fn a_slow_caller_is_told_of_the_gap_and_with_backpressure_there_is_none() -> Result<()> {
    let agent = Agent::start()?;
    let body = json!({ "id": "free", "shell": LARGE, "max_output_bytes": 100_000 });
    let mut slow = Follower::exec(&agent.client, &body)?;
    // It runs to its end although nobody reads.
    ended(&agent, "free")?;
    let events = slow.rest()?;
    let gaps = events.iter().filter(|event| event["event"] == "gap").count();
    ensure!(gaps > 0, "nothing was missed");
    assert_eq!(last(&events)?["stdout_bytes"], 16_000_004);
    let body = json!({ "id": "held", "shell": LARGE, "backpressure": true });
    let mut slow = Follower::exec(&agent.client, &body)?;
    let position = stands_still(&agent, "held")?;
    ensure!(position < 16_000_000, "it did not wait");
    assert_eq!(show(&agent, "held")?["state"], "running");
    let events = slow.rest()?;
    ensure!(!events.iter().any(|event| event["event"] == "gap"), "something was missed");
    let all = stream(&events, "stdout", 0)?;
    ensure!(all.len() == 16_000_004 && all.ends_with(b"xend\n"), "{}", all.len());
    // A client that goes is waited for no longer.
    let body =
        json!({ "id": "left", "shell": LARGE, "backpressure": true, "on_disconnect": "keep" });
    let mut gone = Follower::exec(&agent.client, &body)?;
    gone.next_event()?;
    drop(gone);
    assert_eq!(ended(&agent, "left")?["stdout_bytes"], 16_000_004);
    Ok(())
}

#[test]
fn a_spooled_command_loses_nothing() -> Result<()> {
    let setup = Setup::new()?;
    let spool = setup.directory().join("spool");
    std::fs::create_dir(&spool)?;
    let agent =
        setup.args(&["--spool-dir", &spool.to_string_lossy(), "--spool-limit", "8MiB"]).start()?;
    let script = "seq 1 1000000; seq 1 100 >&2";
    let body = json!({ "id": "whole", "shell": script, "spool": true, "max_output_bytes": 1000 });
    let reply = agent.exec(&body)?;
    assert_eq!(reply["stdout_truncated"], true);
    ensure!(std::fs::read_dir(&spool)?.next().is_none(), "the spool has a name");
    let events = output(&agent, "whole", "")?;
    let expected: String = (1..=1_000_000).map(|number| format!("{number}\n")).collect();
    ensure!(stream(&events, "stdout", 0)? == expected.as_bytes(), "the output differs");
    let from = expected.len() - 8;
    let tail = stream(
        &output(&agent, "whole", &format!("?stdout_from={from}"))?,
        "stdout",
        u64::try_from(from)?,
    )?;
    assert_eq!(tail, b"1000000\n");
    // Beyond the limit the ring is what there is.
    let body = json!({ "id": "large", "shell": LARGE, "spool": true, "max_output_bytes": 1000 });
    agent.exec(&body)?;
    let events = output(&agent, "large", "")?;
    let gap = events.iter().find(|event| event["event"] == "gap").context("no gap")?;
    ensure!(gap["from"].as_u64() > Some(7 << 20), "{gap}");
    let kept: usize = events.iter().filter_map(|event| bytes(event).ok()).map(|b| b.len()).sum();
    assert_eq!(
        u64::try_from(kept)?,
        16_000_004 - (gap["to"].as_u64().unwrap() - gap["from"].as_u64().unwrap())
    );
    let none = Agent::start()?;
    let refused = none.try_exec(&json!({ "argv": ["true"], "spool": true }))?;
    assert_eq!((refused.status(), refused.problem_code()?.as_str()), (400, "no_spool"));
    let gone = Setup::new()?.args(&["--spool-dir", "/nonexistent"]).start_refused()?;
    ensure!(gone.contains("--spool-dir") && gone.contains("/nonexistent"), "{gone}");
    Ok(())
}

/// How much of the standard output of a command is to be had, in bytes.
fn kept_of(agent: &Agent, id: &str) -> Result<usize> {
    let events = output(agent, id, "")?;
    Ok(events.iter().filter_map(|event| bytes(event).ok()).map(|bytes| bytes.len()).sum())
}

#[test]
fn all_spools_share_their_room_and_a_command_that_is_forgotten_gives_it_back() -> Result<()> {
    let setup = Setup::new()?;
    let spool = setup.directory().join("spool");
    std::fs::create_dir(&spool)?;
    let spool = spool.to_string_lossy().into_owned();
    let flags = ["--spool-dir", &spool, "--spool-total", "1MiB", "--keep-ended", "1"];
    let agent = setup.args(&flags).start()?;
    let limits = &agent.client.get("/v1/info")?.json()?["limits"];
    assert_eq!(limits["spool_total_bytes"], 1 << 20);
    let script = "head -c 600000 /dev/zero | tr '\\0' x";
    let run = |id: &str| {
        let body = json!({ "id": id, "shell": script, "spool": true, "max_output_bytes": 1000 });
        agent.exec(&body)
    };
    run("one")?;
    assert_eq!(kept_of(&agent, "one")?, 600_000);
    run("two")?;
    let events = output(&agent, "two", "")?;
    let gap = events.iter().find(|event| event["event"] == "gap").context("no gap")?;
    let room = (1 << 20) - 600_000;
    ensure!(gap["from"].as_u64().is_some_and(|from| (1..=room).contains(&from)), "{gap}");
    // Only one is remembered, and that is the second.
    assert_eq!(agent.client.get("/v1/processes/one")?.status(), 404);
    run("three")?;
    assert_eq!(kept_of(&agent, "three")?, 600_000);
    Ok(())
}

#[test]
fn the_memory_for_output_is_shared_by_all_commands() -> Result<()> {
    let agent = Setup::new()?.args(&["--output-memory", "1MiB"]).start()?;
    let script = "head -c 600000 /dev/zero | tr '\\0' x; read -r go";
    let start = |id: &str| {
        let body = json!({ "id": id, "shell": script, "stdin_open": true });
        agent.client.json("POST", "/v1/processes", &body)
    };
    let kept = |id: &str| -> Result<usize> {
        eventually("it has written", || {
            (show(&agent, id).ok()?["stdout_bytes"] == 600_000).then_some(())
        })?;
        kept_of(&agent, id)
    };
    start("one")?;
    assert_eq!(kept("one")?, 600_000);
    start("two")?;
    let second = kept("two")?;
    ensure!((400_000..500_000).contains(&second), "{second}");
    start("three")?;
    assert_eq!(kept("three")?, 4096);
    Ok(())
}

#[test]
fn with_backpressure_nothing_is_lost_where_the_memory_is_used_up() -> Result<()> {
    let agent = Setup::new()?.args(&["--output-memory", "0"]).start()?;
    let body = json!({ "shell": "seq 1 200000", "backpressure": true });
    let events = Follower::exec(&agent.client, &body)?.rest()?;
    let expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    ensure!(stream(&events, "stdout", 0)? == expected.as_bytes(), "the output differs");
    Ok(())
}

#[test]
fn what_a_reply_says_of_its_command_is_what_the_table_says() -> Result<()> {
    let agent = Agent::start()?;
    let reply = agent.shell("echo out; exit 4")?;
    let shown = show(&agent, text(&reply, "id")?)?;
    for field in ["pid", "exit_code", "signal", "timed_out", "duration_ms", "usage", "left_running"]
    {
        assert_eq!(reply[field], shown[field], "{field}");
    }
    assert_eq!((&shown["state"], &shown["tty"]), (&json!("ended"), &json!(false)));
    Ok(())
}

#[test]
fn all_of_it_holds_under_gvisor() -> Result<()> {
    require!(Gvisor);
    gvisor::rerun("all_of_it_holds_under_gvisor", &[])
}
