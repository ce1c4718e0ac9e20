//! Clients that go while a command of theirs runs, whatever they have sent before, and clients that
//! never come.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use workspace_tests::{
    agent::{Agent, Setup},
    attached::Attached,
    commands::{Follower, ended, show, start},
    gvisor,
    http::Connection,
    require,
    wait::eventually,
};

/// What may stand behind a request: another one, the beginning of one, or nothing that is one.
const BEHIND: [&[u8]; 3] = [b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n", b"GET", b"\r\n\0"];

/// An agent that serves one connection at a time: the next is answered when the last is over.
fn with_one_place() -> Result<Agent> {
    Setup::new()?.args(&["--max-connections", "1"]).start()
}

fn sleeping(wish: &str) -> Value {
    json!({ "argv": ["sleep", "600"], "on_disconnect": wish })
}

/// Sends a request with something behind it, and waits until its client is attached to `id`.
fn ask(agent: &Agent, id: &str, form: &str, body: &Value, behind: &[u8]) -> Result<Connection> {
    let client = agent.client.clone().with("accept", form);
    let mut body = body.clone();
    body["id"] = json!(id);
    let request = client.request("POST", "/v1/exec", body.to_string().as_bytes());
    let mut connection = Connection::open(client.endpoint())?;
    connection.send(&[&request, behind].concat())?;
    attached(agent, id, 1)?;
    Ok(connection)
}

fn attached(agent: &Agent, id: &str, count: u64) -> Result<()> {
    eventually("that many clients are attached", || {
        (show(agent, id).ok()?["attached"] == count).then_some(())
    })
}

#[test]
fn what_a_client_has_sent_behind_its_request_does_not_hide_that_it_has_gone() -> Result<()> {
    let agent = Agent::start()?;
    for form in ["application/json", "application/x-ndjson"] {
        for (number, behind) in BEHIND.into_iter().enumerate() {
            let id = format!("closed-{}-{number}", form.len());
            drop(ask(&agent, &id, form, &sleeping("kill"), behind)?);
            assert_eq!(ended(&agent, &id)?["signal"], "SIGTERM", "{id}");

            let id = format!("half-closed-{}-{number}", form.len());
            let mut connection = ask(&agent, &id, form, &sleeping("kill"), behind)?;
            connection.finish_sending()?;
            assert_eq!(ended(&agent, &id)?["signal"], "SIGTERM", "{id}");
        }
    }
    Ok(())
}

#[test]
fn a_command_that_is_to_be_kept_outlives_such_a_client_too() -> Result<()> {
    let agent = Agent::start()?;
    drop(ask(&agent, "kept", "application/json", &sleeping("keep"), BEHIND[0])?);
    attached(&agent, "kept", 0)?;
    assert_eq!(show(&agent, "kept")?["state"], "running");
    Ok(())
}

#[test]
fn a_client_that_stays_is_answered_all_that_it_asked() -> Result<()> {
    let agent = Agent::start()?;
    let body = json!({ "shell": "read -r go; echo over", "stdin_open": true });
    let mut connection = ask(&agent, "asked", "application/json", &body, BEHIND[0])?;
    agent.client.send("POST", "/v1/processes/asked/stdin", b"go\n")?;
    assert_eq!(connection.read_response("POST")?.json()?["stdout"], "over\n");
    assert_eq!(connection.read_response("GET")?.json()?, json!({ "status": "ok" }));
    Ok(())
}

#[test]
fn quick_requests_are_answered_to_a_client_that_sends_no_more() -> Result<()> {
    let agent = Agent::start()?;
    let mut connection = Connection::open(agent.client.endpoint())?;
    // The last is cut: the library would take the end behind a whole one for a client that has gone.
    connection.send(&[BEHIND[0], BEHIND[0], BEHIND[1]].concat())?;
    connection.finish_sending()?;
    for _ in 0..2 {
        assert_eq!(connection.read_response("GET")?.json()?, json!({ "status": "ok" }));
    }
    Ok(())
}

#[test]
fn a_reader_that_has_gone_holds_no_connection_while_nothing_is_written() -> Result<()> {
    let agent = with_one_place()?;
    let id = start(&agent, &sleeping("keep"))?;
    let target = format!("/v1/processes/{id}/output?follow=true");
    let request = agent.client.request("GET", &target, b"");
    drop(Follower::of(&agent.client, &[&request, BEHIND[0]].concat())?);
    assert_eq!(show(&agent, &id)?["state"], "running");
    Ok(())
}

/// Input in pieces of one byte: more than fit into a pipe and the queue before it, and less than keeps
/// a sender waiting.
fn tiny_pieces(id: &str) -> Vec<u8> {
    let line = format!("POST /v1/processes/{id}/stdin HTTP/1.1\r\n");
    let head = line + "Host: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    [head.as_bytes(), &b"1\r\nx\r\n".repeat(70_000)].concat()
}

#[test]
fn input_of_a_client_that_has_gone_does_not_wait_for_a_command_that_never_reads() -> Result<()> {
    let agent = with_one_place()?;
    let id = start(&agent, &json!({ "argv": ["sleep", "600"], "stdin_open": true }))?;
    let mut connection = Connection::open(agent.client.endpoint())?;
    connection.send(&tiny_pieces(&id))?;
    drop(connection);
    assert_eq!(show(&agent, &id)?["state"], "running");
    Ok(())
}

#[test]
fn an_attached_client_that_goes_is_missed_though_its_input_waits() -> Result<()> {
    let agent = Agent::start()?;
    let mut body = sleeping("kill");
    body["stdin_open"] = json!(true);
    let id = start(&agent, &body)?;
    let mut attached = Attached::open(&agent, &id, "")?;
    attached.event()?;
    // A little more than the agent holds: it has stopped reading.
    for _ in 0..11 {
        attached.type_in(&[b'x'; 100_000])?;
    }
    drop(attached);
    assert_eq!(ended(&agent, &id)?["signal"], "SIGTERM");
    Ok(())
}

#[test]
fn a_command_that_is_to_end_with_its_last_client_ends_when_none_comes() -> Result<()> {
    let agent = Agent::start()?;
    let joined = start(&agent, &sleeping("kill"))?;
    let mut client = Attached::open(&agent, &joined, "")?;
    client.event()?;
    let kept = start(&agent, &sleeping("keep"))?;
    let alone = start(&agent, &sleeping("kill"))?;
    assert_eq!(ended(&agent, &alone)?["signal"], "SIGTERM");
    let why = agent.daemon.output();
    ensure!(why.contains("no client has attached") && why.contains(&alone), "{why}");
    for id in [&joined, &kept] {
        assert_eq!(show(&agent, id)?["state"], "running", "{id}, which is older");
        ensure!(!why.contains(&format!("id=\"{id}\"")), "{why}");
    }
    drop(client);
    ended(&agent, &joined)?;
    Ok(())
}

#[test]
fn all_of_it_holds_under_gvisor() -> Result<()> {
    require!(Gvisor);
    let unread = "its kernel tells of no end behind what is unread";
    let left_out = [
        ("what_a_client_has_sent_behind_its_request_does_not_hide_that_it_has_gone", unread),
        ("a_command_that_is_to_be_kept_outlives_such_a_client_too", unread),
        ("a_reader_that_has_gone_holds_no_connection_while_nothing_is_written", unread),
        ("input_of_a_client_that_has_gone_does_not_wait_for_a_command_that_never_reads", unread),
    ];
    gvisor::rerun("all_of_it_holds_under_gvisor", &left_out)
}
