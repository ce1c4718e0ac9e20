//! The command line as a user has it: `exec`, `attach`, `ps`, `logs`, `kill` against a running agent,
//! where it matters in a real terminal.

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use workspace_tests::{
    agent::{Agent, Setup, text},
    binaries, require,
    terminal::{expect, keys, resize, session, signal},
    wait::eventually,
};

/// Keys that a terminal turns into signals when it is not in raw mode.
const CTRL_C: &str = "\x03";
/// Leaves an attached command.
const CTRL_P_CTRL_Q: &str = "\x10\x11";

/// A client subcommand with its arguments.
fn cli(agent: &Agent, subcommand: &str, arguments: &[&str]) -> Command {
    let mut command = agent.cli(subcommand);
    command.args(arguments);
    command
}

/// A command in a shell of its own, without input.
fn exec(agent: &Agent, options: &[&str], script: &str) -> Command {
    let mut command = cli(agent, "exec", options);
    command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn send(child: &Child, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(child.id().try_into()?).context("a pid")?;
    Ok(kill_process(pid, signal)?)
}

/// Reads until the program has written this.
fn written(child: &mut Child, expected: &str) -> Result<()> {
    let mut bytes = vec![0; expected.len()];
    child.stdout.as_mut().context("a pipe")?.read_exact(&mut bytes)?;
    assert_eq!(String::from_utf8_lossy(&bytes), expected);
    Ok(())
}

fn processes(agent: &Agent) -> Result<Vec<Value>> {
    let list = agent.client.get("/v1/processes")?.json()?;
    Ok(list["processes"].as_array().context("no list")?.clone())
}

/// Waits until the command of this id is as `wanted`.
fn eventually_is(agent: &Agent, id: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    eventually(&format!("{id} is as wanted"), || {
        let shown = agent.client.get(&format!("/v1/processes/{id}")).ok()?.json().ok()?;
        wanted(&shown).then_some(shown)
    })
}

/// A shell with a terminal that runs detached.
fn start_shell(agent: &Agent, id: &str) -> Result<()> {
    let body = json!({
        "id": id, "argv": ["/bin/sh"], "env": {"PS1": "$ "}, "tty": {"rows": 24, "cols": 80},
    });
    let reply = agent.client.send_json("POST", "/v1/processes", &body)?;
    ensure!(reply.status() == 201, "{}: {}", reply.status(), reply.text());
    Ok(())
}

#[test]
fn a_command_has_a_terminal_of_the_size_of_ours() -> Result<()> {
    require!(Python);
    let agent = Agent::start()?;
    let script = "stty size; test -t 0 && test -t 1 && test -t 2 && echo $TERM; exit 3";
    let command = cli(&agent, "exec", &["-t", "-e", "TERM=vt52", "-c", script]);
    let session = session(&command, (33, 99), &[])?;
    assert_eq!(session.exit, 3, "{session:?}");
    assert_eq!(session.shown, "33 99\r\nvt52\r\n");
    ensure!(session.restored, "{session:?}");
    Ok(())
}

#[test]
fn keys_and_sizes_are_the_shells_as_if_it_ran_here() -> Result<()> {
    require!(Python);
    let agent = Agent::start()?;
    let command = cli(&agent, "exec", &["-it", "-e", "PS1=> ", "/bin/sh"]);
    let resized = "until [ \"$(stty size)\" = '50 132' ]; do sleep 0.02; done; echo re''sized\r";
    let steps = [
        expect("> "),
        keys("echo $((6*7))\r"),
        expect("\n42"),
        expect("> "),
        keys("sh -c 'echo started; while :; do sleep 0.02; done'\r"),
        expect("\nstarted"),
        keys(CTRL_C),
        expect("> "),
        keys(resized),
        resize(50, 132),
        expect("resized"),
        expect("> "),
        keys("exit 5\r"),
    ];
    let session = session(&command, (24, 80), &steps)?;
    assert_eq!(session.exit, 5, "{session:?}");
    ensure!(session.restored, "{session:?}");
    Ok(())
}

#[test]
fn the_end_of_the_client_is_the_end_of_its_terminal_command() -> Result<()> {
    require!(Python);
    for (name, code) in [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)] {
        let agent = Agent::start()?;
        let script = "echo re''ady; sleep 1000";
        let command = cli(&agent, "exec", &["-t", "--id", "shell", "-c", script]);
        let session = session(&command, (24, 80), &[expect("ready"), signal(name)])?;
        assert_eq!(session.exit, code, "{name}: {session:?}");
        ensure!(session.restored, "{name}: {session:?}");
        eventually_is(&agent, "shell", |shown| shown["state"] == "ended")?;
    }
    Ok(())
}

#[test]
fn an_agent_that_dies_leaves_the_terminal_as_it_was() -> Result<()> {
    require!(Python);
    let agent = Agent::start()?;
    // The agent is the parent of the command.
    let script = "echo re''ady; read -r go; kill -9 $PPID; sleep 1000";
    let command = cli(&agent, "exec", &["-t", "-c", script]);
    let session = session(&command, (24, 80), &[expect("ready"), keys("\r")])?;
    assert_eq!(session.exit, 125, "{session:?}");
    ensure!(session.shown.contains("the connection broke"), "{session:?}");
    ensure!(session.restored, "{session:?}");
    Ok(())
}

#[test]
fn a_shell_is_joined_left_and_joined_again() -> Result<()> {
    require!(Python);
    let agent = Agent::start()?;
    start_shell(&agent, "shell")?;
    let attach = cli(&agent, "attach", &["shell"]);
    let steps = [expect("$ "), keys("A=kept; echo $A\r"), expect("\nkept"), keys(CTRL_P_CTRL_Q)];
    let first = session(&attach, (30, 100), &steps)?;
    assert_eq!(first.exit, 0, "{first:?}");
    ensure!(first.shown.contains("detached from shell") && first.restored, "{first:?}");
    eventually_is(&agent, "shell", |shown| shown["attached"] == 0 && shown["state"] == "running")?;
    // What was shown is shown again, the shell is the same, and of the size of this terminal.
    let size = "until [ \"$(stty size)\" = '40 90' ]; do sleep 0.02; done\r";
    let steps = [
        expect("\nkept"),
        keys(size),
        keys("echo still $A\r"),
        expect("still kept"),
        keys("exit 4\r"),
    ];
    let second = session(&attach, (40, 90), &steps)?;
    assert_eq!((second.exit, second.restored), (4, true), "{second:?}");
    let kept = agent.run_cli("logs", &["shell"])?;
    ensure!(String::from_utf8_lossy(&kept.stdout).contains("still kept\r\n"), "{kept:?}");
    Ok(())
}

#[test]
fn a_terminal_comes_over_tcp_with_the_token_too() -> Result<()> {
    require!(Python);
    let agent = Setup::new()?.token("a-token")?.on_tcp().start()?;
    let token = agent.directory().join("token");
    let token = token.to_str().context("a path")?;
    let command = cli(&agent, "exec", &["--token-file", token, "-t", "-c", "stty size"]);
    let with = session(&command, (25, 81), &[])?;
    assert_eq!((with.exit, with.shown.as_str()), (0, "25 81\r\n"));
    let without = session(&cli(&agent, "exec", &["-t", "true"]), (25, 81), &[])?;
    assert_eq!(without.exit, 125, "{without:?}");
    ensure!(without.shown.contains("unauthorized"), "{without:?}");
    Ok(())
}

#[test]
fn ctrl_c_without_a_terminal_of_its_own_interrupts_the_command_and_what_it_started() -> Result<()> {
    require!(Python);
    let agent = Agent::start()?;
    // The outer shell's trap runs once the inner one has ended, which only the signal ends.
    let script = "trap 'echo trapped; exit 9' INT; \
                  sh -c 'trap \"echo inner; exit\" INT; echo ready; while :; do sleep 0.02; done'";
    let command = cli(&agent, "exec", &["-c", script]);
    let session = session(&command, (24, 80), &[expect("ready"), keys(CTRL_C), expect("trapped")])?;
    assert_eq!(session.exit, 9, "{session:?}");
    Ok(())
}

#[test]
fn signals_reach_the_command_and_its_exit_code_comes_back() -> Result<()> {
    let agent = Agent::start()?;
    let trap = |signal| format!("trap 'exit 7' {signal}; echo ready; while :; do sleep 0.05; done");
    for (sent, name) in [
        (Signal::HUP, "HUP"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
        (Signal::TERM, "TERM"),
    ] {
        let mut child = exec(&agent, &["-n"], &trap(name)).spawn()?;
        written(&mut child, "ready\n")?;
        send(&child, sent)?;
        assert_eq!(child.wait()?.code(), Some(7), "{name}");
    }
    let mut child = exec(&agent, &["-n"], "echo ready; exec sleep 1000").spawn()?;
    written(&mut child, "ready\n")?;
    send(&child, Signal::TERM)?;
    assert_eq!(child.wait()?.code(), Some(143));
    Ok(())
}

#[test]
fn exit_codes_are_those_of_a_shell_with_a_terminal_and_without() -> Result<()> {
    let agent = Agent::start()?;
    for kind in [&["-n"][..], &["-n", "-t"]] {
        for (arguments, expected) in [
            (&["-c", "exit 3"][..], 3),
            (&["-c", "kill -9 $$"], 137),
            (&["--timeout", "100ms", "sleep", "1000"], 124),
            (&["no-such-program"], 127),
            (&["/etc/passwd"], 126),
            (&["-w", "no-such-directory", "true"], 125),
        ] {
            let status = cli(&agent, "exec", kind).args(arguments).output()?.status;
            assert_eq!(status.code(), Some(expected), "{kind:?} {arguments:?}");
        }
    }
    let output = cli(&agent, "attach", &["nobody"]).output()?;
    assert_eq!(output.status.code(), Some(125));
    ensure!(String::from_utf8_lossy(&output.stderr).contains("no_such_process"), "{output:?}");
    Ok(())
}

#[test]
fn a_command_without_a_terminal_is_joined_with_its_input_and_output() -> Result<()> {
    let agent = Agent::start()?;
    let script = "echo kept; cat; echo told >&2; exit 3";
    let body = json!({"id": "cat", "shell": script, "stdin_open": true});
    agent.client.send_json("POST", "/v1/processes", &body)?;
    let mut attach = cli(&agent, "attach", &["cat"]);
    attach.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = attach.spawn()?;
    // Its end, with that of the pipe, is the end of the command's input.
    child.stdin.take().context("a pipe")?.write_all(b"typed \x10\x11\n")?;
    let output = child.wait_with_output()?;
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(3), &b"told\n"[..]));
    assert_eq!(output.stdout, b"kept\ntyped \x10\x11\n");
    // What has ended is told again.
    let again = cli(&agent, "attach", &["cat"]).output()?;
    assert_eq!((again.status.code(), again.stdout), (Some(3), output.stdout));
    Ok(())
}

#[test]
fn what_is_ignored_under_nohup_does_not_reach_the_command() -> Result<()> {
    let agent = Agent::start()?;
    let script = "trap 'exit 7' HUP; trap 'exit 8' TERM; echo ready; while :; do sleep 0.05; done";
    let inner = exec(&agent, &["-n"], script);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]);
    command.arg(inner.get_program()).args(inner.get_args());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    written(&mut child, "ready\n")?;
    send(&child, Signal::HUP)?;
    send(&child, Signal::TERM)?;
    assert_eq!(child.wait()?.code(), Some(8));
    Ok(())
}

#[test]
fn a_slow_reader_holds_the_command_up_and_loses_nothing() -> Result<()> {
    let agent = Agent::start()?;
    let script = "head -c 40000000 /dev/zero | tr '\\0' x; echo end";
    let mut child = exec(&agent, &["-n", "--id", "much"], script).spawn()?;
    // Much is written, and nobody has read anything.
    eventually_is(&agent, "much", |shown| shown["stdout_bytes"].as_u64() > Some(100_000))?;
    let mut content = Vec::new();
    child.stdout.take().context("a pipe")?.read_to_end(&mut content)?;
    let (filling, end) = content.split_last_chunk::<4>().context("nothing came")?;
    assert_eq!((filling.len(), end), (40_000_000, b"end\n"));
    ensure!(filling.iter().all(|byte| *byte == b'x'), "other bytes");
    let said = std::io::read_to_string(child.stderr.take().context("a pipe")?)?;
    assert_eq!((child.wait()?.code(), said.as_str()), (Some(0), ""));
    Ok(())
}

#[test]
fn a_repeat_under_an_id_joins_the_command_and_another_command_is_refused() -> Result<()> {
    let agent = Agent::start()?;
    let first = exec(&agent, &["-n", "--id", "once"], "echo $$; exit 6").output()?;
    let second = exec(&agent, &["-n", "--id", "once"], "echo $$; exit 6").output()?;
    assert_eq!((first.status.code(), &first.stdout), (Some(6), &second.stdout));
    assert_eq!(second.status.code(), Some(6));
    let other = exec(&agent, &["-n", "--id", "once"], "echo other").output()?;
    assert_eq!(other.status.code(), Some(125));
    let said = String::from_utf8_lossy(&other.stderr);
    ensure!(said.contains("id_in_use"), "{said}");
    Ok(())
}

#[test]
fn a_limit_is_in_force() -> Result<()> {
    let agent = Agent::start()?;
    let options = ["-n", "--limit", "nofile=64", "--limit", "core_bytes=0"];
    let output = exec(&agent, &options, "ulimit -n").output()?;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "64\n", "{output:?}");
    Ok(())
}

#[test]
fn a_command_that_is_kept_outlives_its_client_and_one_that_is_not_does_not() -> Result<()> {
    let agent = Agent::start()?;
    for (options, state) in [
        (&["-n", "--id", "a"][..], "ended"),
        (&["-n", "--id", "b", "--on-disconnect", "keep"], "running"),
    ] {
        let id = options[2];
        let mut child = exec(&agent, options, "echo ready; exec sleep 1000").spawn()?;
        written(&mut child, "ready\n")?;
        child.kill()?;
        child.wait()?;
        eventually_is(&agent, id, |shown| shown["attached"] == 0 && shown["state"] == state)?;
    }
    let killed = agent.run_cli("kill", &["b"])?;
    assert_eq!(String::from_utf8_lossy(&killed.stdout), "killed 1, survivors 0\n");
    Ok(())
}

#[test]
fn ps_shows_what_is_attached_and_what_has_a_terminal() -> Result<()> {
    let agent = Agent::start()?;
    start_shell(&agent, "shell")?;
    let mut child = exec(&agent, &["-n", "--id", "job"], "echo ready; exec sleep 1000").spawn()?;
    written(&mut child, "ready\n")?;
    let listed = agent.run_cli("ps", &[])?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    let ends =
        |id: &str, end: &str| listed.lines().any(|line| line.contains(id) && line.ends_with(end));
    ensure!(ends("shell", " 0 tty shell /bin/sh"), "{listed}");
    ensure!(ends("job", " 1 -   job /bin/sh"), "{listed}");
    assert_eq!(processes(&agent)?.len(), 2);
    send(&child, Signal::TERM)?;
    assert_eq!(child.wait()?.code(), Some(143));
    Ok(())
}

/// Passes the next connection on to the agent, and so many bytes of its answer.
fn relay(listener: &UnixListener, agent: &Path, bytes: u64) -> Result<()> {
    let (client, _) = listener.accept()?;
    let upstream = UnixStream::connect(agent)?;
    let mut head = vec![0; 4096];
    let length = (&client).read(&mut head)?;
    (&upstream).write_all(head.get(..length).unwrap_or_default())?;
    std::io::copy(&mut (&upstream).take(bytes), &mut &client)?;
    Ok(())
}

#[test]
fn logs_go_on_after_a_broken_connection_without_losing_or_repeating_a_byte() -> Result<()> {
    let agent = Agent::start()?;
    let body = json!({"id": "job", "shell": "seq 1 100000", "max_output_bytes": 1 << 20});
    agent.client.send_json("POST", "/v1/processes", &body)?;
    let end = eventually_is(&agent, "job", |shown| shown["state"] == "ended")?;
    ensure!(text(&end, "argv0")? == "/bin/sh", "{end}");
    let path = agent.directory().join("relay.sock");
    let listener = UnixListener::bind(&path)?;
    let socket = agent.socket();
    let (cut, was_cut) = mpsc::channel();
    thread::spawn(move || {
        relay(&listener, &socket, 300_000).and_then(|()| Ok(cut.send(())?))?;
        relay(&listener, &socket, u64::MAX)
    });
    let mut command = Command::new(binaries::agent());
    command.args(["logs", "-f", "--connect", &format!("unix:{}", path.display()), "job"]);
    let output = command.output()?;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let expected: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    ensure!(output.stdout == expected.as_bytes(), "{} bytes", output.stdout.len());
    ensure!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    was_cut.try_recv().context("the connection was not cut")
}
