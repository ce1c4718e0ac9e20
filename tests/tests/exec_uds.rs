//! Running commands over the Unix socket, as the orchestrator does.

use std::{
    fs,
    io::Write,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use workspace_tests::{
    agent::{Agent, Setup, text},
    commands::alive,
    gvisor,
    http::{Client, Connection, Endpoint},
    peer, require,
    wait::eventually,
};

#[test]
fn health_readiness_info_and_metrics_answer() -> Result<()> {
    let agent = Agent::start()?;
    let health = agent.client.get("/health")?;
    assert_eq!((health.status(), health.json()?), (200, json!({ "status": "ok" })));
    assert_eq!(agent.client.get("/readyz")?.status(), 200);
    for probed in ["/health?at=1", "/readyz?at=1", "/metrics?at=1"] {
        assert_eq!(agent.client.get(probed)?.status(), 200, "{probed}");
    }
    let refused = agent.client.get("/v1/info?at=1")?;
    assert_eq!((refused.status(), refused.problem_code()?.as_str()), (400, "bad_query"));
    let info = agent.client.get("/v1/info")?.json()?;
    ensure!(text(&info, "version")?.starts_with("0."), "{info}");
    let root = agent.root().canonicalize()?;
    assert_eq!(text(&info, "root")?, root.to_string_lossy());
    agent.shell("true")?;
    let metrics = agent.client.get("/metrics")?;
    assert_eq!(metrics.status(), 200);
    ensure!(metrics.text().contains("# TYPE "), "no metrics: {}", metrics.text());
    Ok(())
}

#[test]
fn argv_runs_without_a_shell_and_shell_runs_with_one() -> Result<()> {
    let agent = Agent::start()?;
    let reply = agent.exec(&json!({ "argv": ["printf", "%s|", "a b", "$HOME", "*"] }))?;
    assert_eq!(text(&reply, "stdout")?, "a b|$HOME|*|");
    let reply = agent.exec(&json!({ "shell": "printf '%s|' a b; echo err >&2" }))?;
    assert_eq!((text(&reply, "stdout")?, text(&reply, "stderr")?), ("a|b|", "err\n"));
    Ok(())
}

#[test]
fn a_reply_has_every_promised_field() -> Result<()> {
    let agent = Agent::start()?;
    let reply = agent.shell("echo out; echo err >&2; exit 3")?;
    assert_eq!(reply["exit_code"], 3);
    assert_eq!(reply["signal"], Value::Null);
    assert_eq!(reply["timed_out"], false);
    assert_eq!(reply["stdout_encoding"], "utf-8");
    assert_eq!(reply["stderr_encoding"], "utf-8");
    assert_eq!((&reply["stdout_bytes"], &reply["stderr_bytes"]), (&json!(4), &json!(4)));
    assert_eq!(reply["stdout_truncated"], false);
    assert_eq!(reply["stderr_truncated"], false);
    for number in ["pid", "duration_ms"] {
        ensure!(reply[number].is_number(), "{number} is no number in {reply}");
    }
    for number in ["user_ms", "system_ms", "max_rss_bytes"] {
        ensure!(reply["usage"][number].is_number(), "usage.{number} is no number in {reply}");
    }
    ensure!(!text(&reply, "id")?.is_empty(), "no id in {reply}");
    Ok(())
}

#[test]
fn a_signal_is_told_as_a_signal_and_never_as_an_exit_code() -> Result<()> {
    let agent = Agent::start()?;
    let reply = agent.shell("kill -KILL $$")?;
    assert_eq!(reply["exit_code"], Value::Null);
    assert_eq!(reply["signal"], "SIGKILL", "{reply}");
    Ok(())
}

#[test]
fn a_command_starts_in_the_root_or_the_directory_asked_for() -> Result<()> {
    let agent = Agent::start()?;
    fs::create_dir(agent.root().join("sub"))?;
    let root = agent.root().canonicalize()?;
    assert_eq!(text(&agent.shell("pwd")?, "stdout")?.trim(), root.to_string_lossy());
    let reply = agent.exec(&json!({ "argv": ["pwd"], "cwd": "sub" }))?;
    assert_eq!(text(&reply, "stdout")?.trim(), root.join("sub").to_string_lossy());
    let reply = agent.exec(&json!({ "argv": ["pwd"], "cwd": "/" }))?;
    assert_eq!(text(&reply, "stdout")?, "/\n");
    Ok(())
}

#[test]
fn a_command_gets_a_cleared_environment_and_what_the_request_adds() -> Result<()> {
    let agent = Setup::new()?.env("SECRET_OF_THE_AGENT", "x").start()?;
    let reply = agent.exec(&json!({ "argv": ["env"], "env": { "ADDED": "by request" } }))?;
    let stdout = text(&reply, "stdout")?;
    ensure!(stdout.contains("ADDED=by request\n"), "{stdout}");
    ensure!(stdout.contains("PATH="), "{stdout}");
    ensure!(!stdout.contains("SECRET_OF_THE_AGENT"), "{stdout}");
    Ok(())
}

#[test]
fn stdin_is_given_as_text_or_base64_and_is_empty_otherwise() -> Result<()> {
    let agent = Agent::start()?;
    let reply = agent.exec(&json!({ "argv": ["cat"], "stdin": "grüße\n" }))?;
    assert_eq!(text(&reply, "stdout")?, "grüße\n");
    let reply = agent.exec(&json!({ "argv": ["cat"], "stdin_base64": "AGH/" }))?;
    assert_eq!(text(&reply, "stdout_encoding")?, "base64");
    assert_eq!(text(&reply, "stdout")?, "AGH/");
    let reply = agent.exec(&json!({ "argv": ["cat"] }))?;
    assert_eq!(reply["stdout_bytes"], 0);
    Ok(())
}

/// Waits until a process is gone, or only a zombie that its parent has yet to collect.
fn gone(agent: &Agent, pid: &str) -> Result<()> {
    eventually("the child is gone", || (!alive(agent, pid)).then_some(()))
}

#[test]
fn a_timeout_ends_the_whole_process_group() -> Result<()> {
    let agent = Agent::start()?;
    let line = "sleep 1000 & echo $! > child; echo before; wait";
    let reply = agent.exec(&json!({ "shell": line, "timeout_ms": 300, "kill_grace_ms": 200 }))?;
    assert_eq!(reply["timed_out"], true, "{reply}");
    assert_eq!(reply["exit_code"], Value::Null, "{reply}");
    assert_eq!(text(&reply, "stdout")?, "before\n");
    let child = fs::read_to_string(agent.root().join("child"))?.trim().to_owned();
    gone(&agent, &child)
}

#[test]
fn a_command_that_ignores_the_term_signal_is_killed() -> Result<()> {
    let agent = Agent::start()?;
    let line = "trap '' TERM; while :; do sleep 1; done";
    let reply = agent.exec(&json!({ "shell": line, "timeout_ms": 200, "kill_grace_ms": 100 }))?;
    assert_eq!(
        (&reply["timed_out"], &reply["signal"]),
        (&json!(true), &json!("SIGKILL")),
        "{reply}"
    );
    Ok(())
}

#[test]
fn output_beyond_the_cap_is_cut_and_said_to_be() -> Result<()> {
    let agent = Agent::start()?;
    let line = "printf start; head -c 3000000 /dev/zero | tr '\\0' x; printf end";
    let reply = agent.exec(&json!({ "shell": line, "max_output_bytes": 1000 }))?;
    assert_eq!(reply["stdout_truncated"], true);
    assert_eq!(reply["stderr_truncated"], false);
    assert_eq!(reply["stdout_bytes"], 3_000_008);
    let stdout = text(&reply, "stdout")?;
    ensure!(stdout.starts_with("start") && stdout.ends_with("end"), "head or tail is missing");
    ensure!(stdout.len() < 2000, "{} bytes came back", stdout.len());
    Ok(())
}

#[test]
fn what_cannot_start_is_a_clear_422_and_no_invented_exit_code() -> Result<()> {
    let agent = Agent::start()?;
    fs::write(agent.root().join("data"), "no program")?;
    let refused = [
        (json!({ "argv": ["no-such-program"] }), "command_not_found"),
        (json!({ "argv": ["./data"] }), "permission_denied"),
        (json!({ "argv": ["true"], "cwd": "no/such/directory" }), "bad_cwd"),
    ];
    for (body, code) in refused {
        let answer = agent.try_exec(&body)?;
        assert_eq!((answer.status(), answer.problem_code()?.as_str()), (422, code), "{body}");
    }
    Ok(())
}

#[test]
fn events_arrive_while_the_command_still_runs() -> Result<()> {
    let agent = Agent::start()?;
    let client = agent.client.clone().with("accept", "application/x-ndjson");
    let gate = "while ! [ -e gate ]; do sleep 0.01; done";
    let body = json!({ "shell": format!("echo first; {gate}; echo second $(cat gate); exit 5") });

    let mut connection = Connection::open(client.endpoint())?;
    connection.send(&client.request("POST", "/v1/exec", body.to_string().as_bytes()))?;
    assert_eq!(connection.read_head()?.status, 200);
    let mut text = String::new();
    while !text.contains("first") {
        let chunk = connection.read_chunk()?.context("ended before the first output")?;
        text += &String::from_utf8(chunk)?;
    }
    ensure!(!text.contains("exited"), "the command did not wait: {text}");
    fs::write(agent.root().join("new"), "go\n")?;
    fs::rename(agent.root().join("new"), agent.root().join("gate"))?;
    while let Some(chunk) = connection.read_chunk()? {
        text += &String::from_utf8(chunk)?;
    }

    let events: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let (first, last) = (&events[0], &events[events.len() - 1]);
    assert_eq!(first["event"], "started");
    ensure!(first["pid"].is_number() && first["id"].is_string(), "{first}");
    assert_eq!((&last["event"], &last["exit_code"]), (&json!("exited"), &json!(5)));
    let output: Vec<_> = events.iter().filter(|event| event["event"] == "stdout").collect();
    let data: String = output.iter().filter_map(|event| event["data"].as_str()).collect();
    assert_eq!(data, "first\nsecond go\n");
    assert_eq!(output[0]["offset"], 0);
    Ok(())
}

#[test]
fn a_background_child_survives_the_end_of_its_command_and_delays_nothing() -> Result<()> {
    let agent = Agent::start()?;
    let reply = agent.shell("sleep 1000 & echo $!")?;
    assert_eq!(reply["exit_code"], 0);
    let child = text(&reply, "stdout")?.trim().to_owned();
    ensure!(alive(&agent, &child), "the background child was ended");
    ensure!(reply["left_running"].as_u64() >= Some(1), "{reply}");
    agent.exec(&json!({ "argv": ["kill", "-KILL", child] }))?;
    gone(&agent, &child)
}

#[test]
fn many_commands_run_side_by_side() -> Result<()> {
    let agent = Agent::start()?;
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..32)
            .map(|number| {
                let agent = &agent;
                scope.spawn(move || agent.shell(&format!("echo {number}; exit {number}")))
            })
            .collect();
        for (number, run) in runs.into_iter().enumerate() {
            let reply = run.join().expect("no panic")?;
            assert_eq!(reply["exit_code"], number);
            assert_eq!(text(&reply, "stdout")?.trim(), number.to_string());
        }
        Ok(())
    })
}

#[test]
fn the_standard_library_of_python_drives_it_as_an_orchestrator_would() -> Result<()> {
    require!(Python);
    let agent = Agent::start()?;
    let output =
        Command::new("python3").arg(peer::script("exec_driver.py")).arg(agent.socket()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, b"driven\n");
    Ok(())
}

#[test]
fn the_command_line_client_passes_stdin_outputs_and_the_exit_code_through() -> Result<()> {
    let agent = Agent::start()?;
    let mut child = agent
        .cli("exec")
        .args(["--", "sh", "-c", "cat; echo err >&2; exit 7"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no stdin")?.write_all(b"from\0stdin\xff\n")?;
    let output = child.wait_with_output()?;
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(output.stdout, b"from\0stdin\xff\n");
    assert_eq!(output.stderr, b"err\n");
    Ok(())
}

#[test]
fn the_command_line_client_tells_health_by_its_exit_code() -> Result<()> {
    let agent = Agent::start()?;
    agent.run_cli("health", &[])?;
    let mut nobody = Command::new(workspace_tests::binaries::agent());
    nobody.args(["health", "--connect", "unix:/no/such.sock"]);
    ensure!(!nobody.output()?.status.success(), "nobody is healthy");
    Ok(())
}

#[test]
fn the_socket_has_the_mode_asked_for_and_0660_otherwise() -> Result<()> {
    let agent = Agent::start()?;
    assert_eq!(fs::metadata(agent.socket())?.permissions().mode() & 0o777, 0o660);
    let setup = Setup::new()?;
    let other = setup.directory().join("other.sock");
    let agent =
        setup.args(&["--listen", &format!("unix:{},mode=0600", other.display())]).start()?;
    assert_eq!(fs::metadata(&other)?.permissions().mode() & 0o777, 0o600);
    let second = Client::new(Endpoint::Unix(other));
    assert_eq!(second.get("/health")?.status(), 200);
    assert_eq!(agent.client.get("/health")?.status(), 200);
    Ok(())
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_refused() -> Result<()> {
    let setup = Setup::new()?;
    drop(UnixListener::bind(setup.directory().join("agent.sock"))?);
    let agent = setup.start()?;
    assert_eq!(agent.client.get("/health")?.status(), 200);

    let setup = Setup::new()?;
    let _live = UnixListener::bind(setup.directory().join("agent.sock"))?;
    let said = setup.start_refused()?;
    ensure!(said.contains("in use"), "{said}");
    Ok(())
}

#[test]
fn all_of_it_holds_under_gvisor() -> Result<()> {
    require!(Gvisor);
    gvisor::rerun("all_of_it_holds_under_gvisor", &[])
}
