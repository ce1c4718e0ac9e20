//! The same API over TCP, where a token guards it.

use anyhow::{Result, ensure};
use serde_json::json;
use workspace_tests::{
    agent::{Setup, text},
    http::Client,
    process::free_address,
};

const TOKEN: &str = "token-of-the-orchestrator";

#[test]
fn a_command_runs_over_tcp_with_the_token() -> Result<()> {
    let agent = Setup::new()?.token(TOKEN)?.on_tcp().start()?;
    assert_eq!(text(&agent.shell("echo over tcp")?, "stdout")?, "over tcp\n");
    Ok(())
}

#[test]
fn without_exactly_the_right_token_nothing_runs() -> Result<()> {
    let agent = Setup::new()?.token(TOKEN)?.on_tcp().start()?;
    let anyone = Client::new(agent.client.endpoint().clone());
    let twice = anyone.clone().with_token(TOKEN).with_token(TOKEN);
    let shorter = anyone.clone().with_token("token-of-the-orchestrato");
    let longer = anyone.clone().with_token("token-of-the-orchestrator2");
    let basic = anyone.clone().with("authorization", TOKEN);
    let empty = anyone.clone().with("authorization", "Bearer ");
    for client in [anyone, twice, shorter, longer, basic, empty] {
        let answer = client.send_json("POST", "/v1/exec", &json!({ "shell": "touch ran" }))?;
        assert_eq!((answer.status(), answer.problem_code()?.as_str()), (401, "unauthorized"));
        ensure!(!answer.text().contains(TOKEN), "the answer holds the token");
        assert_eq!(client.send("PUT", "/v1/files/f", b"x")?.status(), 401);
    }
    ensure!(!agent.root().join("ran").exists(), "a command ran without the token");
    ensure!(!agent.root().join("f").exists(), "a file was written without the token");
    ensure!(!agent.daemon.output().contains(TOKEN), "the log holds the token");
    Ok(())
}

#[test]
fn the_token_guards_the_unix_socket_as_well() -> Result<()> {
    let agent = Setup::new()?.token(TOKEN)?.start()?;
    assert_eq!(text(&agent.shell("echo ok")?, "stdout")?, "ok\n");
    let anyone = Client::new(agent.client.endpoint().clone());
    assert_eq!(anyone.send_json("POST", "/v1/exec", &json!({ "argv": ["true"] }))?.status(), 401);
    Ok(())
}

#[test]
fn commands_never_see_the_token() -> Result<()> {
    let agent = Setup::new()?.token(TOKEN)?.on_tcp().start()?;
    let reply =
        agent.shell("env; cat /proc/$PPID/environ /proc/$PPID/cmdline | tr '\\0' '\\n'; true")?;
    ensure!(!text(&reply, "stdout")?.contains(TOKEN), "{reply}");
    Ok(())
}

#[test]
fn a_tcp_listener_open_to_others_is_refused_without_a_token() -> Result<()> {
    let port = free_address()?.port();
    let listen = format!("tcp:0.0.0.0:{port}");
    let said = Setup::new()?.args(&["--listen", &listen]).start_refused()?;
    ensure!(said.contains("token"), "{said}");
    let agent = Setup::new()?.token(TOKEN)?.args(&["--listen", &listen]).start()?;
    assert_eq!(text(&agent.shell("echo ok")?, "stdout")?, "ok\n");
    Ok(())
}
