//! `GET /v1/events`: a subscriber hears of commands, and first of all of a stop.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use workspace_tests::{
    agent::{Agent, Setup, text},
    commands::{Follower, pids, start},
    gvisor, require,
};

fn subscribe(agent: &Agent) -> Result<(Follower, Value)> {
    let mut events = Follower::of(&agent.client, &agent.client.request("GET", "/v1/events", b""))?;
    let hello = events.next_event()?.context("no hello")?;
    assert_eq!(hello["event"], "hello");
    Ok((events, hello))
}

#[test]
fn starts_and_ends_are_told_in_order() -> Result<()> {
    let agent = Agent::start()?;
    let (mut events, hello) = subscribe(&agent)?;
    assert_eq!(hello["draining"], false);
    let reply = agent.shell("exit 3")?;
    let id = text(&reply, "id")?;
    ensure!(id.starts_with(text(&hello, "boot")?), "{id} is not of {hello}");
    for (name, exit_code) in [("process_started", Value::Null), ("process_exited", json!(3))] {
        let event = events.next_event()?.context("no event")?;
        assert_eq!((&event["event"], &event["id"]), (&json!(name), &json!(id)));
        assert_eq!((&event["pid"], &event["exit_code"]), (&reply["pid"], &exit_code));
        ensure!(text(&event, "at")?.ends_with('Z'), "{event}");
    }
    Ok(())
}

#[test]
fn a_stop_is_told_at_once_with_the_time_that_is_left() -> Result<()> {
    let mut agent = Setup::new()?.args(&["--drain-timeout", "50s"]).start()?;
    let (mut events, _) = subscribe(&agent)?;
    let script = "trap 'while ! test -e go; do sleep 0.01; done; exit' TERM; echo $$ > pids; \
                  while :; do sleep 0.01; done";
    let id = start(&agent, &json!({ "shell": script, "kill_grace_ms": 40_000 }))?;
    pids(&agent, "pids", 1)?;
    assert_eq!(events.next_event()?.context("no event")?["event"], "process_started");
    agent.signal(Signal::TERM)?;
    let draining = events.next_event()?.context("no event")?;
    assert_eq!(
        (&draining["event"], &draining["deadline_ms"]),
        (&json!("draining"), &json!(50_000))
    );
    // The command is still there, and files are still served.
    let (_, hello) = subscribe(&agent)?;
    assert_eq!(hello["draining"], true);
    let put = agent.client.send("PUT", "/v1/files/go", b"")?;
    ensure!((200..300).contains(&put.status()), "{}", put.text());
    let exited = events.next_event()?.context("no event")?;
    assert_eq!((&exited["event"], &exited["id"]), (&json!("process_exited"), &json!(id)));
    // As long as somebody listens it serves on.
    assert_eq!(agent.client.get("/readyz")?.status(), 503);
    drop(events);
    ensure!(agent.daemon.wait()?.success(), "{}", agent.daemon.output());
    Ok(())
}

#[test]
fn a_subscriber_that_does_not_read_is_told_what_it_missed() -> Result<()> {
    let agent = Agent::start()?;
    let (mut events, _) = subscribe(&agent)?;
    // Far more than sockets and the backlog hold; the first read comes after the last start.
    for _ in 0..4000 {
        agent.exec(&json!({ "argv": ["true"] }))?;
    }
    let mut lagged = 0;
    let mut seen = 0;
    while lagged == 0 {
        let event = events.next_event()?.context("no event")?;
        lagged += event["missed"].as_u64().unwrap_or(0);
        seen += 1;
    }
    ensure!(lagged > 0 && seen < 8000, "{lagged} of {seen}");
    Ok(())
}

#[test]
fn the_call_is_for_reading_and_needs_the_token() -> Result<()> {
    let agent = Setup::new()?.token("secret-token")?.start()?;
    let stranger = workspace_tests::http::Client::new(agent.client.endpoint().clone());
    assert_eq!(stranger.get("/v1/events")?.status(), 401);
    assert_eq!(agent.client.send("POST", "/v1/events", b"")?.status(), 405);
    assert_eq!(agent.client.get("/v1/events?x=1")?.status(), 400);
    Ok(())
}

#[test]
fn all_of_it_holds_under_gvisor() -> Result<()> {
    require!(Gvisor);
    let left_out = [(
        "a_subscriber_that_does_not_read_is_told_what_it_missed",
        "its four thousand commands take a minute there, and prove nothing of the kernel",
    )];
    gvisor::rerun("all_of_it_holds_under_gvisor", &left_out)
}
