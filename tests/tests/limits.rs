//! Limits of commands on the real kernel: each is applied or said not to be, and a command that
//! multiplies ends with everything it made.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use workspace_tests::{
    agent::{Agent, Setup},
    commands::{alive, delete, ended, pids, start},
    gvisor, require,
    tools::report_skip,
    wait::eventually,
};

#[test]
fn what_is_asked_for_holds_and_is_said_to() -> Result<()> {
    let agent = Agent::start()?;
    let script = "ulimit -n; ulimit -t; ulimit -f; ulimit -v; nice; umask; \
                  cat /proc/self/oom_score_adj; ulimit -Hn";
    let body = json!({
        "argv": ["bash", "-c", script], "nice": 7, "umask": "027", "oom_score_adj": 321,
        "limits": { "nofile": 99, "cpu_seconds": 50, "file_size_bytes": 1_048_576,
                    "memory_bytes": 200_000_000_u64 },
    });
    let reply = agent.exec(&body)?;
    let said: Vec<&str> =
        reply["stdout"].as_str().context("no output")?.split_whitespace().collect();
    assert_eq!(said[..3], ["99", "50", "1024"], "{reply}");
    assert_eq!(said[4..], ["7", "0027", "321", "99"]);
    for name in ["nofile", "cpu_seconds", "file_size_bytes", "nice", "umask", "oom_score_adj"] {
        assert_eq!(reply["limits"][name], "applied", "{name}");
    }
    // By cgroup the address space is free; without one it is what is limited.
    let expected = match reply["limits"]["memory_bytes"].as_str() {
        Some("applied") => "unlimited",
        Some("applied as address space (RLIMIT_AS)") => "195312",
        other => panic!("{other:?}"),
    };
    assert_eq!(said[3], expected);
    ensure!(agent.shell("umask")?["stdout"] == "0022\n", "another umask by default");
    ensure!(agent.shell("ulimit -c")?["stdout"] == "0\n", "core files by default");
    Ok(())
}

#[test]
fn what_cannot_be_applied_is_said_with_its_reason_and_the_command_runs() -> Result<()> {
    let agent = Setup::new()?.args(&["--cgroup", "off"]).unprivileged()?.start()?;
    let body =
        json!({ "argv": ["true"], "nice": -5, "limits": { "pids": 10, "nofile": u64::MAX } });
    let reply = agent.exec(&body)?;
    assert_eq!(reply["exit_code"], 0);
    for name in ["pids", "nofile", "nice"] {
        let said = reply["limits"][name].as_str().context(name)?;
        ensure!(said.starts_with("not applied: "), "{name}: {said}");
    }
    ensure!(agent.exec(&json!({ "argv": ["true"] }))?["limits"].is_null(), "limits without a wish");
    Ok(())
}

#[test]
fn a_command_beyond_its_processor_time_or_file_size_is_ended_by_the_kernel() -> Result<()> {
    let agent = Agent::start()?;
    let body =
        json!({ "argv": ["bash", "-c", "while :; do :; done"], "limits": { "cpu_seconds": 1 } });
    assert_eq!(agent.exec(&body)?["signal"], "SIGKILL");
    let body = json!({ "argv": ["dd", "if=/dev/zero", "of=large", "bs=1M", "count=4"],
                       "limits": { "file_size_bytes": 1_048_576 } });
    assert_eq!(agent.exec(&body)?["signal"], "SIGXFSZ");
    assert_eq!(std::fs::metadata(agent.root().join("large"))?.len(), 1_048_576);
    Ok(())
}

#[test]
fn a_command_that_cannot_start_under_limits_is_a_422_as_any_other() -> Result<()> {
    let agent = Agent::start()?;
    std::fs::write(agent.root().join("script"), "echo hi\n")?;
    for (argv, code) in [("/no/such", "command_not_found"), ("./script", "permission_denied")] {
        let refused = agent.try_exec(&json!({ "argv": [argv], "nice": 1 }))?;
        assert_eq!((refused.status(), refused.problem_code()?.as_str()), (422, code));
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(agent.root().join("script"), mode)?;
    let refused = agent.try_exec(&json!({ "argv": ["./script"], "nice": 1 }))?;
    assert_eq!(refused.problem_code()?, "exec_format_error");
    Ok(())
}

/// How many processes run a command line that holds `text`.
fn count(text: &str) -> usize {
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok())
        .filter(|line| line.contains(text))
        .count()
}

#[test]
fn a_fork_bomb_under_a_limit_is_ended_to_the_last_process() -> Result<()> {
    let agent = Setup::new()?.unprivileged()?.start()?;
    // Each of them leaves the session, ignores TERM and never stops trying.
    let bomb = "#!/bin/sh\ntrap '' TERM HUP\nwhile :; do setsid \"$0\" \"$1\" 2>/dev/null & done\n";
    let path = agent.root().join("bomb");
    std::fs::write(&path, bomb)?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let mark = format!("bomb-{}", std::process::id());
    let body = json!({ "argv": ["./bomb", mark], "limits": { "nproc": 60 } });
    let id = start(&agent, &body)?;
    eventually("it has multiplied", || (count(&mark) > 20).then_some(()))?;
    let reply = delete(&agent, &id, "?grace_ms=100")?.json()?;
    assert_eq!(reply["survivors"], 0, "{reply}");
    ensure!(reply["killed"].as_u64() > Some(20), "{reply}");
    assert_eq!(count(&mark), 0);
    assert_eq!(agent.shell("echo fine")?["stdout"], "fine\n");
    Ok(())
}

#[test]
fn a_process_whose_first_thread_has_ended_is_ended_too() -> Result<()> {
    require!(Python);
    let agent = Agent::start()?;
    let script = "import ctypes, os, threading, time\n\
                  threading.Thread(target=time.sleep, args=(600,)).start()\n\
                  print(os.getpid(), file=open('pids', 'w'), flush=True)\n\
                  ctypes.CDLL(None).pthread_exit(None)";
    let id = start(&agent, &json!({ "argv": ["python3", "-c", script] }))?;
    let pids = pids(&agent, "pids", 1)?;
    eventually("its first thread has ended", || {
        agent.proc_stat(&pids[0]).ok()?.contains(") Z ").then_some(())
    })?;
    let reply = delete(&agent, &id, "?grace_ms=0")?.json()?;
    assert_eq!(reply, json!({ "killed": 1, "survivors": 0 }));
    assert_eq!(agent.proc_stat(&pids[0])?, "");
    Ok(())
}

#[test]
fn a_command_that_stops_what_starts_holds_nobody_up() -> Result<()> {
    require!(Python);
    let agent = Agent::start()?;
    // It looks at the youngest process again and again, and stops it if it is a launcher of its own
    // agent. Its own command line says the word too.
    let script = "import os, signal\n\
                  print('ready', flush=True)\n\
                  while True:\n\
                  \x20pid = open('/proc/loadavg').read().split()[-1]\n\
                  \x20if int(pid) == os.getpid(): continue\n\
                  \x20try:\n\
                  \x20 parent = open(f'/proc/{pid}/stat').read().split()[3]\n\
                  \x20 if int(parent) == os.getppid() and \\\n\
                  \x20   b'--launch' in open(f'/proc/{pid}/cmdline', 'rb').read():\n\
                  \x20  os.kill(int(pid), signal.SIGSTOP); print('stopped', flush=True)\n\
                  \x20except (OSError, ValueError): pass";
    let hostile = start(&agent, &json!({ "argv": ["python3", "-c", script] }))?;
    let said = |word: &str| {
        let text = agent.client.get(&format!("/v1/processes/{hostile}/output")).ok()?.text();
        text.contains(word).then_some(())
    };
    eventually("it watches", || said("ready"))?;
    eventually("it has stopped one", || {
        let body = json!({ "argv": ["true"], "nice": 1, "timeout_ms": 5000 });
        let reply = agent.try_exec(&body).ok()?;
        // Stopped in time, its launcher hangs, which is said; too late, the command runs, or hangs itself.
        match reply.status() {
            200 => {
                let ended = reply.json().ok()?;
                assert!(ended["exit_code"] == 0 || ended["timed_out"] == true, "{ended}");
            }
            _ => assert_eq!(reply.problem_code().ok()?, "start_failed"),
        }
        said("stopped")
    })?;
    assert_eq!(agent.client.get("/health")?.status(), 200);
    delete(&agent, &hostile, "?grace_ms=0").map(drop)
}

#[test]
fn every_way_of_hiding_ends_with_a_delete() -> Result<()> {
    let agent = Agent::start()?;
    for script in [
        "nohup sleep 600 > /dev/null 2>&1 & echo $! >> pids; wait",
        "(setsid sh -c '(sleep 600 & echo $! >> pids)' &); sleep 600 & echo $! >> pids; wait",
        "exec > /dev/null 2>&1 < /dev/null; sleep 600 & echo $! >> pids; wait",
        "set -m; sleep 600 & echo $! >> pids; kill -STOP $!; sleep 600",
        "trap '' TERM INT HUP QUIT; sh -c 'trap \"\" TERM; while :; do sleep 600; done' & \
         echo $! >> pids; while :; do wait; done",
    ] {
        let id = start(&agent, &json!({ "argv": ["bash", "-c", script] }))?;
        let expected = script.matches(">> pids").count();
        let hidden = pids(&agent, "pids", expected)?;
        let reply = delete(&agent, &id, "?grace_ms=200")?.json()?;
        assert_eq!(reply["survivors"], 0, "{script}");
        ensure!(!hidden.iter().any(|pid| alive(&agent, pid)), "{script}: {hidden:?}");
        assert_eq!(ended(&agent, &id)?["left_running"], 0);
        std::fs::remove_file(agent.root().join("pids"))?;
    }
    Ok(())
}

/// Whether this machine lets the agent make cgroups.
fn cgroup_of(agent: &Agent) -> Result<Option<String>> {
    let info: Value = agent.client.get("/v1/info")?.json()?;
    Ok(info["cgroup"].as_str().map(str::to_owned))
}

#[test]
fn the_cgroup_goes_with_the_agent() -> Result<()> {
    // In its own user namespace root has no right to the hierarchy's root.
    let mut agent = Setup::new()?.args(&["--isolate-net", "off"]).start()?;
    let Some(directory) = cgroup_of(&agent)? else {
        report_skip("cgroup version 2 is not mounted, or may not be written");
        return Ok(());
    };
    ensure!(std::path::Path::new(&directory).is_dir(), "{directory}");
    for _ in 0..20 {
        agent.shell("true")?;
    }
    let groups = std::fs::read_dir(&directory)?.flatten().filter(|entry| entry.path().is_dir());
    ensure!(groups.count() <= 2, "groups are not used again");
    agent.signal(rustix::process::Signal::TERM)?;
    agent.daemon.wait()?;
    ensure!(!std::path::Path::new(&directory).exists(), "{directory} is left behind");
    Ok(())
}

#[test]
fn all_of_it_holds_under_gvisor() -> Result<()> {
    require!(Gvisor);
    let left_out = [
        ("the_cgroup_goes_with_the_agent", "there is no cgroup version 2"),
        (
            "a_command_that_stops_what_starts_holds_nobody_up",
            "there /proc/loadavg does not tell the youngest process",
        ),
        (
            "a_fork_bomb_under_a_limit_is_ended_to_the_last_process",
            "the agent of the sandbox is root, whom RLIMIT_NPROC spares",
        ),
        (
            "what_cannot_be_applied_is_said_with_its_reason_and_the_command_runs",
            "the agent of the sandbox is root, who may be less nice",
        ),
    ];
    gvisor::rerun("all_of_it_holds_under_gvisor", &left_out)
}
