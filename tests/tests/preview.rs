//! Ports that a command serves, reached through the agent: `/v1/ports/{port}/…`.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use workspace_tests::{
    agent::{Agent, Setup},
    binaries,
    http::{Client, Connection},
    peer::Peer,
    process::free_address,
    require,
    wait::eventually,
};

const TOKEN: &str = "token-of-the-orchestrator";

/// An agent with a token, whose commands are in a namespace of their own.
fn isolated() -> Result<Setup> {
    Setup::new()?.on_tcp().args(&["--isolate-net", "required"]).token(TOKEN)
}

/// Starts a server as a command and waits until it listens.
fn serve(agent: &Agent, address: &str, port: u16) -> Result<u16> {
    let script = binaries::repository().join("tests/peers/served.py");
    let argv = json!(["python3", script, address, port.to_string()]);
    let started = agent.client.json("POST", "/v1/processes", &json!({ "argv": argv }))?;
    let output = format!("/v1/processes/{}/output", started["id"].as_str().context("an id")?);
    let ready = eventually("the server in the workspace listens", || {
        let events = agent.client.get(&output).ok()?.text();
        let event: Value = serde_json::from_str(events.lines().next()?).ok()?;
        serde_json::from_str::<Value>(event["data"].as_str()?).ok()
    })?;
    ready["port"].as_u64().and_then(|port| port.try_into().ok()).context("a port")
}

#[test]
fn a_served_port_is_reached_and_sees_neither_token_nor_connection() -> Result<()> {
    require!(UserNamespaces, Python);
    let agent = isolated()?.start()?;
    let port = serve(&agent, "127.0.0.1", 0)?;
    ensure!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "the port is not inside");
    let client = agent.client.clone().with("connection", "x-private").with("x-private", "1");
    let path = format!("/v1/ports/{port}/a%2Fb//c?x=%20&y");
    let answer = client.send("PUT", &path, b"content")?;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let seen = answer.json()?;
    assert_eq!(seen["method"], "PUT");
    assert_eq!(seen["path"], "/a%2Fb//c?x=%20&y");
    assert_eq!(seen["body"], "content");
    let headers = seen["headers"].as_object().context("headers")?;
    let mut names: Vec<&str> = headers.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "host", "x-forwarded-host", "x-forwarded-prefix"]);
    assert_eq!(headers["host"], format!("localhost:{port}"));
    ensure!(!seen.to_string().contains(TOKEN), "{seen}");
    assert_eq!(answer.header("x-workspace-port"), Some(port.to_string().as_str()));
    assert_eq!(answer.header("keep-alive"), None);
    Ok(())
}

#[test]
fn only_callers_with_the_token_get_in() -> Result<()> {
    require!(UserNamespaces, Python);
    let agent = isolated()?.start()?;
    let port = serve(&agent, "127.0.0.1", 0)?;
    let path = format!("/v1/ports/{port}/");
    let stranger = Client::new(agent.client.endpoint().clone());
    assert_eq!(stranger.get(&path)?.problem_code()?, "unauthorized");
    assert_eq!(agent.client.get(&path)?.status(), 200);
    Ok(())
}

#[test]
fn a_caller_that_speaks_http_2_is_answered_too() -> Result<()> {
    require!(UserNamespaces, Python, Curl);
    let agent = isolated()?.start()?;
    let port = serve(&agent, "127.0.0.1", 0)?;
    let url = format!("{}/v1/ports/{port}/upload", agent.client.endpoint());
    let token = format!("Authorization: Bearer {TOKEN}");
    let output = Command::new("curl")
        .args(["-sS", "--http2-prior-knowledge", "-H", &token, "-d", "content", &url])
        .output()?;
    let seen: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    assert_eq!((&seen["path"], &seen["body"]), (&json!("/upload"), &json!("content")));
    assert_eq!(seen["headers"]["host"], format!("localhost:{port}"));
    ensure!(seen["headers"]["x-forwarded-host"].is_string(), "{seen}");
    ensure!(!seen.to_string().contains(TOKEN), "{seen}");
    Ok(())
}

#[test]
fn a_server_on_ipv6_loopback_is_found() -> Result<()> {
    require!(UserNamespaces, Python);
    let agent = isolated()?.start()?;
    let port = serve(&agent, "::1", 0)?;
    assert_eq!(agent.client.get(&format!("/v1/ports/{port}"))?.json()?["path"], "/");
    Ok(())
}

#[test]
fn events_arrive_as_they_are_sent() -> Result<()> {
    require!(UserNamespaces, Python);
    let agent = isolated()?.start()?;
    let port = serve(&agent, "127.0.0.1", 0)?;
    let mut stream = Connection::open(agent.client.endpoint())?;
    stream.send(&agent.client.request("GET", &format!("/v1/ports/{port}/events"), b""))?;
    let head = stream.read_head()?;
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert_eq!(stream.read_chunk()?.as_deref(), Some(&b"data: first\n\n"[..]));
    agent.client.get(&format!("/v1/ports/{port}/go-on"))?;
    assert_eq!(stream.read_chunk()?.as_deref(), Some(&b"data: second\n\n"[..]));
    assert_eq!(stream.read_chunk()?, None);
    Ok(())
}

#[test]
fn a_websocket_is_relayed_both_ways() -> Result<()> {
    require!(UserNamespaces, Python);
    let agent = isolated()?.start()?;
    let port = serve(&agent, "127.0.0.1", 0)?;
    let client = agent
        .client
        .clone()
        .with("connection", "Upgrade")
        .with("upgrade", "websocket")
        .with("sec-websocket-version", "13")
        .with("sec-websocket-key", "key");
    let mut socket = Connection::open(client.endpoint())?;
    socket.send(&client.request("GET", &format!("/v1/ports/{port}/socket"), b""))?;
    let head = socket.read_head()?;
    assert_eq!((head.status, head.header("sec-websocket-accept")), (101, Some("of key")));
    assert_eq!(head.header("upgrade"), Some("websocket"));
    for word in ["one", "two"] {
        socket.send(format!("{word}\n").as_bytes())?;
        assert_eq!(socket.read_line()?, Some(word.to_uppercase()));
    }
    // The stop of the agent ends it.
    agent.daemon.signal(rustix::process::Signal::TERM)?;
    assert_eq!(socket.read_line()?, None);
    Ok(())
}

#[test]
fn an_open_websocket_does_not_hold_the_stop_up() -> Result<()> {
    require!(Python);
    let mut agent = Setup::new()?.args(&["--isolate-net", "off"]).start()?;
    // Not started by the agent, which would end it.
    let served = Peer::start("python3".as_ref(), "served.py", &["127.0.0.1", "0"])?;
    let client = agent.client.clone().with("connection", "Upgrade").with("upgrade", "websocket");
    let client = client.with("sec-websocket-key", "key");
    let mut socket = Connection::open(client.endpoint())?;
    socket.send(&client.request("GET", &format!("/v1/ports/{}/socket", served.port()), b""))?;
    assert_eq!(socket.read_head()?.status, 101);
    agent.daemon.signal(rustix::process::Signal::TERM)?;
    assert_eq!(agent.daemon.wait()?.code(), Some(0));
    Ok(())
}

#[test]
fn what_cannot_be_reached_is_said_with_a_code() -> Result<()> {
    require!(UserNamespaces, Python);
    let forward = free_address()?;
    let spec = format!("{forward}=unix:/nonexistent/proxy.sock");
    let agent = isolated()?.args(&["--forward", &spec]).start()?;
    let port = serve(&agent, "127.0.0.1", 0)?;
    for (call, status, code) in [
        ("x".to_owned(), 400, "bad_port"),
        ("0/".to_owned(), 400, "bad_port"),
        ("1/".to_owned(), 502, "port_unreachable"),
        (format!("{}/", forward.port()), 403, "port_closed"),
        (format!("{port}/nonsense"), 502, "port_broken"),
        (format!("{port}/unasked"), 502, "port_broken"),
    ] {
        let answer = agent.client.get(&format!("/v1/ports/{call}"))?;
        assert_eq!((answer.status(), answer.problem_code()?.as_str()), (status, code), "{call}");
        assert_eq!(answer.header("x-workspace-port"), None);
    }
    Ok(())
}

#[test]
fn the_agents_own_listener_is_no_port_of_the_workspace() -> Result<()> {
    let agent = Setup::new()?.on_tcp().args(&["--isolate-net", "off"]).start()?;
    let workspace_tests::http::Endpoint::Tcp(address) = agent.client.endpoint() else {
        anyhow::bail!("not on TCP")
    };
    let answer = agent.client.get(&format!("/v1/ports/{}/health", address.port()))?;
    assert_eq!(answer.problem_code()?, "port_closed");
    Ok(())
}
