//! `exec` without a terminal.

use std::process::Child;

use http::StatusCode;
use rustix::process::Signal;
use serde_json::json;
use workspace_agent::exec::frame::{FRAMES, Kind};

use super::{
    agent::{Scripted, Stream, within},
    ended, signal, start, text, written,
};

const LINES: &str = "application/x-ndjson";

/// A client whose command runs, as it knows.
async fn running(agent: &mut Scripted, arguments: &[&str]) -> (Child, Stream) {
    let mut child = start(agent.cli("exec", arguments));
    let mut reply = agent.call("POST", "/v1/exec").await.stream(FRAMES);
    let limits = json!({"nofile": "applied", "pids": "not applied: no cgroup"});
    let started = json!({"event": "started", "id": "a", "pid": 1, "limits": limits});
    reply.event(&started).await;
    assert!(reply.output(Kind::Stdout, 0, b"ready").await);
    written(&mut child, "ready").await;
    (child, reply)
}

#[tokio::test]
async fn an_older_agent_is_spoken_to_in_lines() {
    let mut agent = Scripted::start();
    let child = start(agent.cli("exec", &["-n", "true"]));
    let call = agent.call("POST", "/v1/exec").await;
    assert!(call.accepts(FRAMES));
    call.refuse(StatusCode::NOT_ACCEPTABLE, "not_acceptable");
    let mut call = agent.call("POST", "/v1/exec").await;
    assert!(call.accepts(LINES));
    let asked = call.json().await;
    assert_eq!(asked, json!({"argv": ["true"], "env": {}, "stdin_open": false}));
    let mut reply = call.stream(LINES);
    reply.event(&json!({"event": "started", "id": "a", "pid": 1})).await;
    reply.event(&json!({"event": "stdout", "offset": 0, "data": "out\n"})).await;
    reply.event(&json!({"event": "stderr", "offset": 0, "data_base64": "/wo="})).await;
    reply.event(&json!({"event": "exited", "exit_code": 3, "signal": null})).await;
    let output = ended(child).await;
    assert_eq!(output.status.code(), Some(3));
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"\xff\n"[..]));
}

#[tokio::test]
async fn signals_are_passed_on_to_whom_a_terminal_would_send_them() {
    let mut agent = Scripted::start();
    let (child, mut reply) = running(&mut agent, &["-n", "x"]).await;
    for (sent, name, scope) in [
        (Signal::INT, "SIGINT", "tree"),
        (Signal::QUIT, "SIGQUIT", "tree"),
        (Signal::HUP, "SIGHUP", "leader"),
        (Signal::USR1, "SIGUSR1", "leader"),
        (Signal::USR2, "SIGUSR2", "leader"),
        (Signal::TERM, "SIGTERM", "leader"),
    ] {
        signal(&child, sent);
        let mut call = agent.call("POST", "/v1/processes/a/signal").await;
        assert_eq!(call.json().await, json!({"signal": name, "scope": scope}));
        call.reply(&json!({"signalled": 1}));
    }
    reply.event(&json!({"event": "exited", "exit_code": null, "signal": "SIGTERM"})).await;
    let output = ended(child).await;
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(143), ""));
}

#[tokio::test]
async fn a_signal_that_cannot_be_passed_on_ends_the_client() {
    let mut agent = Scripted::start();
    let (child, _reply) = running(&mut agent, &["-n", "x"]).await;
    signal(&child, Signal::INT);
    let call = agent.call("POST", "/v1/processes/a/signal").await;
    call.refuse(StatusCode::NOT_FOUND, "no_such_process");
    assert_eq!(ended(child).await.status.code(), Some(130));
}

#[tokio::test]
async fn before_the_start_a_signal_ends_the_client() {
    let mut agent = Scripted::start();
    let child = start(agent.cli("exec", &["-n", "sleep", "9"]));
    let _unanswered = agent.call("POST", "/v1/exec").await;
    signal(&child, Signal::TERM);
    assert_eq!(ended(child).await.status.code(), Some(143));
}

#[tokio::test]
async fn output_that_nobody_reads_holds_the_agent_up_and_no_signal() {
    let mut agent = Scripted::start();
    let (child, mut reply) = running(&mut agent, &["-n", "x"]).await;
    // More than all the buffers between here and there hold: the pipe of the child is not read.
    let piece = vec![b'y'; 1 << 20];
    let filled = async {
        let mut offset = 0;
        while reply.output(Kind::Stdout, offset, &piece).await {
            offset += piece.len() as u64;
        }
        offset
    };
    let interrupted = async {
        signal(&child, Signal::TERM);
        let call = agent.call("POST", "/v1/processes/a/signal").await;
        call.refuse(StatusCode::NOT_FOUND, "no_such_process");
    };
    let (taken, ()) = within("end", async { tokio::join!(filled, interrupted) }).await;
    assert!(taken < 64 << 20, "the client took {taken} bytes that nobody read");
    assert_eq!(ended(child).await.status.code(), Some(143));
}

#[tokio::test]
async fn what_is_lost_is_said_and_a_broken_reply_is_a_failure_of_our_own() {
    for (arguments, fate) in [
        (&["-n", "x"][..], "it has been ended with it"),
        (&["-n", "--on-disconnect", "keep", "x"], "it may run on"),
    ] {
        let mut agent = Scripted::start();
        let (mut child, mut reply) = running(&mut agent, arguments).await;
        // One that a later version sends.
        reply.event(&json!({"event": "weather"})).await;
        reply.event(&json!({"event": "gap", "stream": "stdout", "from": 5, "to": 14})).await;
        assert!(reply.output(Kind::Stdout, 14, b"rest\n").await);
        written(&mut child, "rest\n").await;
        reply.cut();
        let output = ended(child).await;
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(125), ""));
        let said: Vec<&str> = text(&output.stderr).lines().collect();
        assert_eq!(said[0], "workspace-agent: limit pids: not applied: no cgroup");
        assert_eq!(said[1], "workspace-agent: 9 bytes of stdout are kept no more");
        assert!(said[2].contains("the connection broke") && said[2].contains(fate), "{said:?}");
    }
}
