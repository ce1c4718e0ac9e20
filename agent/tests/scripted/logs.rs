//! `logs -f` across broken connections.

use std::process::Child;

use http::StatusCode;
use serde_json::json;
use workspace_agent::exec::frame::{FRAMES, Kind};

use super::{agent::Scripted, ended, start, text, written};

#[tokio::test]
async fn what_came_is_not_asked_for_again_and_nothing_is_lost() {
    let mut agent = Scripted::start();
    let mut child = start(agent.cli("logs", &["-f", "build"]));
    let first = "/v1/processes/build/output?stdout_from=0&stderr_from=0&follow=true";
    let call = agent.call("GET", first).await;
    assert!(call.accepts(FRAMES));
    let mut reply = call.stream(FRAMES);
    assert!(reply.output(Kind::Stdout, 0, b"one ").await);
    reply.event(&json!({"event": "gap", "stream": "stderr", "from": 0, "to": 7})).await;
    assert!(reply.output(Kind::Stdout, 4, b"two ").await);
    written(&mut child, "one two ").await;
    reply.cut();
    // The second breaks before anything comes; the third is of a version that knows lines only.
    let again = "/v1/processes/build/output?stdout_from=8&stderr_from=7&follow=true";
    agent.call("GET", again).await.stream(FRAMES).cut();
    let mut reply = agent.call("GET", again).await.stream("application/x-ndjson");
    reply.event(&json!({"event": "stdout", "offset": 8, "data": "three\n"})).await;
    reply.event(&json!({"event": "exited", "exit_code": 1, "signal": null})).await;
    let output = ended(child).await;
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "three\n"));
    assert_eq!(text(&output.stderr), "workspace-agent: 7 bytes of stderr are kept no more\n");
}

/// A client whose connection has broken after a byte.
async fn broken(agent: &mut Scripted, arguments: &[&str], follow: &str) -> Child {
    let mut child = start(agent.cli("logs", arguments));
    let target = format!("/v1/processes/a/output?stdout_from=0&stderr_from=0&{follow}");
    let mut reply = agent.call("GET", &target).await.stream(FRAMES);
    assert!(reply.output(Kind::Stdout, 0, b"x").await);
    written(&mut child, "x").await;
    reply.cut();
    child
}

#[tokio::test]
async fn an_agent_that_has_forgotten_the_command_is_not_asked_for_ever() {
    let mut agent = Scripted::start();
    let child = broken(&mut agent, &["-f", "a"], "follow=true").await;
    let again = "/v1/processes/a/output?stdout_from=1&stderr_from=0&follow=true";
    agent.call("GET", again).await.refuse(StatusCode::NOT_FOUND, "no_such_process");
    let output = ended(child).await;
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).contains("no_such_process"), "{output:?}");
}

#[tokio::test]
async fn without_following_a_break_is_the_end() {
    let mut agent = Scripted::start();
    let child = broken(&mut agent, &["a"], "follow=false").await;
    let output = ended(child).await;
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).contains("it may run on"), "{output:?}");
}
