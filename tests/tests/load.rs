//! Much at once: commands, output, input. Nothing is lost, and the agent's memory stays bounded.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use workspace_tests::{
    agent::{Agent, Setup, text},
    commands::{Follower, ended, last, show, start},
    http::Connection,
    wait::eventually,
};

/// The most memory that the agent has ever had, in bytes (proc(5), VmHWM).
fn peak_memory(agent: &Agent) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.daemon.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no peak")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

fn children(pid: u32) -> Vec<String> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    children.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_thousand_commands_run_at_once() -> Result<()> {
    // All are remembered, in whatever order they end.
    let agent = Setup::new()?.args(&["--keep-ended", "1000"]).start()?;
    let body = json!({ "shell": "read -r go; echo done $go", "stdin_open": true });
    let ids: Vec<String> = (0..1000).map(|_| start(&agent, &body)).collect::<Result<_>>()?;
    let list = agent.client.get("/v1/processes")?.json()?;
    let running = list["processes"].as_array().context("no list")?;
    assert_eq!(running.iter().filter(|process| process["state"] == "running").count(), 1000);
    let idle = peak_memory(&agent)?;
    ensure!(idle < 64 << 20, "{idle} bytes for 1000 commands");
    for (number, id) in ids.iter().enumerate() {
        let said = format!("{number}\n");
        let target = format!("/v1/processes/{id}/stdin?eof=true");
        assert_eq!(agent.client.send("POST", &target, said.as_bytes())?.status(), 200);
    }
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(ended(&agent, id)?["exit_code"], 0);
        let events = workspace_tests::commands::output(&agent, id, "")?;
        assert_eq!(events[0]["data"], format!("done {number}\n"));
    }
    eventually("all have been collected", || children(agent.daemon.pid()).is_empty().then_some(()))
}

#[test]
fn no_zombie_stays_after_ten_thousand_short_commands() -> Result<()> {
    let agent = Agent::start()?;
    std::thread::scope(|scope| {
        let worker = |_| {
            scope.spawn(|| -> Result<()> {
                for _ in 0..1250 {
                    assert_eq!(agent.exec(&json!({ "argv": ["true"] }))?["exit_code"], 0);
                }
                Ok(())
            })
        };
        let workers: Vec<_> = (0..8).map(worker).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no panic"))
    })?;
    eventually("all have been collected", || {
        children(agent.daemon.pid()).is_empty().then_some(())
    })?;
    let metrics = agent.client.get("/metrics")?.text();
    ensure!(metrics.contains("workspace_agent_commands_total{end=\"success\"} 10000"), "{metrics}");
    Ok(())
}

#[test]
fn a_gigabyte_of_input_takes_no_memory() -> Result<()> {
    const CHUNK: usize = 1 << 20;
    const CHUNKS: usize = 1024;
    let agent = Agent::start()?;
    let id = start(&agent, &json!({ "argv": ["wc", "-c"], "stdin_open": true }))?;
    let mut connection = Connection::open(agent.client.endpoint())?;
    let head = format!(
        "POST /v1/processes/{id}/stdin?eof=true HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n",
        CHUNK * CHUNKS
    );
    connection.send(head.as_bytes())?;
    let chunk = vec![b'x'; CHUNK];
    for _ in 0..CHUNKS {
        connection.send(&chunk)?;
    }
    assert_eq!(connection.read_response("POST")?.status(), 200);
    ended(&agent, &id)?;
    let events = workspace_tests::commands::output(&agent, &id, "")?;
    assert_eq!(events[0]["data"], format!("{}\n", CHUNK * CHUNKS));
    let peak = peak_memory(&agent)?;
    ensure!(peak < 32 << 20, "{peak} bytes");
    Ok(())
}

#[test]
fn a_hundred_megabytes_of_output_with_a_reader_that_stopped_take_no_memory() -> Result<()> {
    let agent = Agent::start()?;
    let body = json!({ "shell": "head -c 100000000 /dev/zero | tr '\\0' x" });
    let id = start(&agent, &body)?;
    let mut stopped = Follower::open(&agent.client, &id, "")?;
    stopped.next_event()?;
    assert_eq!(ended(&agent, &id)?["stdout_bytes"], 100_000_000);
    let peak = peak_memory(&agent)?;
    ensure!(peak < 32 << 20, "{peak} bytes");
    assert_eq!(last(&stopped.rest()?)?["event"], "exited");
    Ok(())
}

#[test]
fn thirty_two_large_replies_that_nobody_reads_take_no_memory() -> Result<()> {
    const WRITTEN: usize = 16 << 20;
    let agent = Agent::start()?;
    // JSON takes six bytes for each of these: 192 MiB a reply.
    let script =
        format!("w() {{ head -c {WRITTEN} /dev/zero | tr '\\0' '\\1'; }}; w; w >&2; read -r go");
    let body = json!({ "id": "large", "shell": script, "stdin_open": true,
                       "max_output_bytes": WRITTEN });
    let request = agent.client.request("POST", "/v1/exec", body.to_string().as_bytes());
    let mut clients = Vec::new();
    for _ in 0..32 {
        let mut client = Connection::open(agent.client.endpoint())?;
        client.send(&request)?;
        clients.push(client);
    }
    eventually("all have come", || (show(&agent, "large").ok()?["attached"] == 32).then_some(()))?;
    agent.client.send("POST", "/v1/processes/large/stdin?eof=true", b"go\n")?;
    let mut reader = clients.pop().context("no client")?;
    for client in &mut clients {
        assert_eq!(client.read_head()?.status, 200);
        client.read_exact(4096)?;
    }
    let reply = reader.read_response("POST")?;
    // What is kept, once, and what is on its way to each client.
    let peak = peak_memory(&agent)?;
    ensure!(peak < 80 << 20, "{peak} bytes");
    let written = "\\u0001".repeat(WRITTEN);
    let rest = format!(",\"stdout\":\"{written}\",\"stderr\":\"{written}\"}}\n");
    ensure!(reply.body.ends_with(rest.as_bytes()), "{} bytes", reply.body.len());
    Ok(())
}

#[test]
fn odd_commands_are_told_truthfully() -> Result<()> {
    let agent = Agent::start()?;
    let code = |body: Value| -> Result<String> { agent.try_exec(&body)?.problem_code() };
    assert_eq!(code(json!({ "argv": ["no-such-program"] }))?, "command_not_found");
    fs::write(agent.root().join("script"), "#!/bin/sh\necho hi\n")?;
    assert_eq!(code(json!({ "argv": ["./script"] }))?, "permission_denied");
    fs::create_dir(agent.root().join("gone"))?;
    let reply = agent.exec(&json!({ "shell": "rmdir ../gone; pwd -P; echo on", "cwd": "gone" }))?;
    ensure!(text(&reply, "stdout")?.contains("on\n"), "{reply}");
    assert_eq!(code(json!({ "argv": ["true"], "cwd": "gone" }))?, "bad_cwd");
    let reply = agent.shell("printf '\\377\\376'")?;
    assert_eq!((&reply["stdout"], &reply["stdout_encoding"]), (&json!("//4="), &json!("base64")));
    let body = json!({ "argv": ["bash", "-ic", "alias greet='echo hi'; type greet"],
                       "tty": { "rows": 24, "cols": 80 } });
    ensure!(text(&agent.exec(&body)?, "stdout")?.contains("greet"), "no interactive shell");
    // One that closes its outputs lives on, and its end is told.
    let id = start(
        &agent,
        &json!({ "shell": "exec >&- 2>&-; read -r go; exit 9", "stdin_open": true }),
    )?;
    assert_eq!(show(&agent, &id)?["state"], "running");
    agent.client.send("POST", &format!("/v1/processes/{id}/stdin?eof=true"), b"go\n")?;
    assert_eq!(ended(&agent, &id)?["exit_code"], 9);
    Ok(())
}
