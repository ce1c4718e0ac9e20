//! SIGTERM: what runs is ended or finished in time, and the exit is clean.

use std::{
    io::Write,
    path::Path,
    sync::{Mutex, mpsc},
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use workspace_tests::{
    agent::{Agent, Setup},
    http::Connection,
    origin::{Origin, tcp_server},
    process::Daemon,
    proxy,
    wait::eventually,
};

/// A line that a command has written, once it is complete.
fn written(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().filter(|line| line.ends_with('\n'))
}

#[test]
fn an_idle_agent_stops_at_once_and_removes_its_socket() -> Result<()> {
    let mut agent = Agent::start()?;
    agent.daemon.signal(Signal::TERM)?;
    let status = agent.daemon.wait()?;
    ensure!(status.success(), "{status}: {}", agent.daemon.output());
    ensure!(!agent.socket().exists(), "the socket is still there");
    Ok(())
}

#[test]
fn a_running_command_is_ended_and_its_client_told() -> Result<()> {
    let mut agent = Setup::new()?.args(&["--drain-timeout", "10s"]).start()?;
    let client = agent.client.clone().with("accept", "application/x-ndjson");
    let mut connection = Connection::open(client.endpoint())?;
    let body =
        json!({ "shell": "echo $$ > pid; sleep 1000 & wait", "kill_grace_ms": 200 }).to_string();
    connection.send(&client.request("POST", "/v1/exec", body.as_bytes()))?;
    assert_eq!(connection.read_head()?.status, 200);
    let pid = eventually("the command runs", || written(&agent.root().join("pid")))?;
    agent.daemon.signal(Signal::TERM)?;
    let mut text = String::new();
    while let Some(chunk) = connection.read_chunk()? {
        text += &String::from_utf8(chunk)?;
    }
    let last: Value = serde_json::from_str(text.lines().last().context("no events")?)?;
    ensure!(last["event"] == "exited" || last["event"] == "error", "{last}");
    ensure!(agent.daemon.wait()?.success(), "{}", agent.daemon.output());
    let left = Path::new("/proc").join(pid.trim());
    ensure!(!left.exists(), "the command is still running");
    Ok(())
}

/// Whether a thread of the process holds SIGTERM back (proc_pid_status(5)).
fn holds_sigterm_back(pid: u32) -> bool {
    const SIGTERM: u64 = 1 << 14;
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().any(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        let mask = blocked.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & SIGTERM != 0)
    })
}

#[test]
fn a_stop_that_is_asked_for_during_the_start_is_not_lost() -> Result<()> {
    let setup = Setup::new()?;
    let mut daemon = Daemon::spawn("agent", setup.command(), setup.directory())?;
    eventually("the agent holds signals back", || holds_sigterm_back(daemon.pid()).then_some(()))?;
    daemon.signal(Signal::TERM)?;
    let status = daemon.wait()?;
    ensure!(status.success(), "{status}: {}", daemon.output());
    Ok(())
}

#[test]
fn a_second_signal_ends_the_agent_whatever_runs() -> Result<()> {
    let mut agent = Setup::new()?.args(&["--drain-timeout", "1h"]).start()?;
    let body = json!({ "shell": "trap '' TERM; echo $$ > started; while :; do sleep 1; done", "kill_grace_ms": 600_000 });
    let client = agent.client.clone();
    let running = std::thread::spawn(move || client.send_json("POST", "/v1/exec", &body).map(drop));
    let pid = eventually("the command runs", || written(&agent.root().join("started")))?;
    agent.daemon.signal(Signal::TERM)?;
    // Two signals that are both pending are one; the first has to be taken first.
    eventually("the agent drains", || {
        agent.client.get("/readyz").ok().filter(|answer| answer.status() == 503)
    })?;
    // Until its commands have ended the agent starts nothing and serves everything else.
    let refused = agent.try_exec(&json!({ "argv": ["/bin/true"] }))?;
    assert_eq!((refused.status(), refused.problem_code()?.as_str()), (503, "draining"));
    assert_eq!(agent.client.get("/v1/files/started")?.text(), pid);
    assert_eq!(agent.client.get("/v1/sync/pull")?.status(), 200);
    agent.daemon.signal(Signal::TERM)?;
    agent.daemon.wait()?;
    let left = Path::new("/proc").join(pid.trim());
    ensure!(!left.exists(), "the command is still running");
    // Its answer, if any, does not matter here.
    drop(running.join());
    Ok(())
}

#[test]
fn a_proxy_finishes_a_stream_within_its_grace() -> Result<()> {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::start(move |_, stream| {
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nfirst",
        )?;
        wait.lock().expect("no panic").recv().expect("the test says when");
        stream.write_all(b" last")
    })?;
    let mut proxy = proxy::Setup::new()?.allow_local("slow.test", origin.port()).start()?;
    let host = format!("slow.test:{}", origin.port());
    let client = proxy.client().with("host", &host);
    let mut connection = proxy.connect()?;
    connection.send(&client.request("GET", &format!("http://{host}/"), b""))?;
    assert_eq!(connection.read_head()?.status, 200);
    assert_eq!(connection.read_exact(5)?, b"first");
    proxy.daemon.signal(Signal::TERM)?;
    eventually("no new connection is taken", || proxy.connect().is_err().then_some(()))?;
    go.send(())?;
    assert_eq!(connection.read_exact(5)?, b" last");
    drop(connection);
    ensure!(proxy.daemon.wait()?.success(), "{}", proxy.daemon.output());
    Ok(())
}

#[test]
fn a_proxy_cuts_what_outlasts_its_grace() -> Result<()> {
    let origin = Origin::start(|_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 0\n\n")?;
        let mut rest = [0];
        std::io::Read::read(stream, &mut rest).map(drop)
    })?;
    let setup = proxy::Setup::new()?.allow_local("endless.test", origin.port());
    let mut proxy = setup.args(&["--drain-timeout", "1s"]).start()?;
    let host = format!("endless.test:{}", origin.port());
    let client = proxy.client().with("host", &host);
    let mut connection = proxy.connect()?;
    connection.send(&client.request("GET", &format!("http://{host}/"), b""))?;
    assert_eq!(connection.read_head()?.status, 200);
    proxy.daemon.signal(Signal::TERM)?;
    proxy.daemon.wait()?;
    assert_eq!(proxy.audit().len(), 1, "{}", proxy.daemon.output());
    Ok(())
}

#[test]
fn a_second_signal_cuts_the_streams_and_tunnels_of_a_proxy_at_once() -> Result<()> {
    let origin = Origin::start(|_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 0\n\n")?;
        std::io::Read::read(stream, &mut [0]).map(drop)
    })?;
    let raw = tcp_server(|mut stream| std::io::Read::read(&mut stream, &mut [0]).map(drop))?;
    let setup = proxy::Setup::new()?
        .allow_local("endless.test", origin.port())
        .allow_raw("raw.test", raw.port());
    let mut proxy = setup.args(&["--drain-timeout", "1h"]).start()?;
    let host = format!("endless.test:{}", origin.port());
    let mut stream = proxy.connect()?;
    let client = proxy.client().with("host", &host);
    stream.send(&client.request("GET", &format!("http://{host}/"), b""))?;
    assert_eq!(stream.read_head()?.status, 200);
    let mut tunnel = proxy.connect()?;
    let target = format!("raw.test:{}", raw.port());
    tunnel.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes())?;
    assert_eq!(tunnel.read_head()?.status, 200);
    proxy.daemon.signal(Signal::TERM)?;
    // Two signals that are both pending are one; the first has to be taken first.
    eventually("the proxy drains", || {
        proxy.admin.get("/readyz").ok().filter(|answer| answer.status() == 503)
    })?;
    ensure!(proxy.audit().iter().all(|line| line["close_reason"] != "proxy_stopped"), "cut early");
    proxy.daemon.signal(Signal::TERM)?;
    ensure!(proxy.daemon.wait()?.success(), "{}", proxy.daemon.output());
    for mode in ["forward", "connect"] {
        proxy.audited(|line| line["mode"] == mode && line["close_reason"] == "proxy_stopped")?;
    }
    Ok(())
}
