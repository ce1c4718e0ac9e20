//! Processes on the real kernel: outcomes, whole trees ended, statuses delivered to their owners.
//!
//! In a test program of its own: the collector takes the status of every child of its process, and
//! so would take those that other tests wait for.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{ffi::CString, os::unix::process::ExitStatusExt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use workspace_agent::{
    metrics::Metrics,
    supervise::{
        Engine, Refusal, Request, Stdin,
        reap::Reaper,
        spawn::CommandSpec,
        task::{Outcome, OutputSink, Outputs},
    },
};
use workspace_common::drain::{self, Drain};

/// Keeps everything.
#[derive(Debug, Default)]
struct Kept(Vec<u8>);

impl OutputSink for Kept {
    async fn write(&mut self, data: Bytes) {
        self.0.extend_from_slice(&data);
    }
    async fn finish(&mut self) {}
}

fn engine(limit: u32) -> (Engine, drain::DrainTrigger) {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let (trigger, drain) = drain::channel();
    (Engine::new(shared_reaper(&drain), drain, Arc::new(Metrics::new().unwrap()), limit), trigger)
}

/// Statuses of children belong to the process, so all tests of this binary share one collector,
/// on a runtime of its own that outlives each test's.
fn shared_reaper(drain: &Drain) -> Reaper {
    static REAPER: std::sync::OnceLock<(tokio::runtime::Runtime, Reaper)> =
        std::sync::OnceLock::new();
    let start = || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let inside = runtime.enter();
        let reaper = Reaper::start(drain).unwrap();
        drop(inside);
        (runtime, reaper)
    };
    REAPER.get_or_init(start).1.clone()
}

fn shell(script: &str) -> Request {
    let c = |text: &str| CString::new(text).unwrap();
    Request {
        spec: CommandSpec {
            argv: vec![c("/bin/sh"), c("-c"), c(script)],
            cwd: "/".into(),
            env: vec![c("PATH=/usr/bin:/bin")],
            pipe_stdin: false,
        },
        stdin: Stdin::Null,
        timeout: None,
        kill_grace: Duration::from_millis(100),
    }
}

async fn run(engine: &Engine, mut request: Request) -> (Outcome, Outputs<Kept>) {
    request.spec.pipe_stdin = !matches!(request.stdin, Stdin::Null);
    let outputs = Outputs { stdout: Kept::default(), stderr: Kept::default() };
    engine.start(request, outputs).unwrap().wait().await.unwrap()
}

fn alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test(flavor = "multi_thread")]
async fn output_and_exit_code_are_passed_on() {
    let (engine, _trigger) = engine(8);
    let (outcome, outputs) = run(&engine, shell("echo out; echo err >&2; exit 3")).await;
    assert_eq!(outcome.ended.unwrap().status.code(), Some(3));
    assert_eq!((&outputs.stdout.0[..], &outputs.stderr.0[..]), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(outcome.left_running, 0);
    assert!(!outcome.timed_out());
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_lead_their_session_and_start_with_no_signal_ignored() {
    let (engine, _trigger) = engine(8);
    let script = "grep -E '^Sig(Ign|Blk)' /proc/self/status; cut -d' ' -f6 /proc/$$/stat; echo $$";
    let (_, outputs) = run(&engine, shell(script)).await;
    let text = String::from_utf8(outputs.stdout.0).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words[..3], ["SigBlk:", "0000000000000000", "SigIgn:"]);
    // glibc keeps 32 and 33 for itself and ignores them in the child; no program can use them.
    assert!(matches!(words[3], "0000000000000000" | "0000000180000000"), "{text}");
    assert_eq!(words[4], words[5]);
    let (outcome, _) = run(&engine, shell("kill -9 $$")).await;
    assert_eq!(outcome.ended.unwrap().status.signal(), Some(9));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_input_and_output_pass_at_the_same_time() {
    let (engine, _trigger) = engine(8);
    let input = Bytes::from(vec![b'x'; 3 << 20]);
    let request = Request { stdin: Stdin::Bytes(input.clone()), ..shell("cat") };
    let (_, outputs) = run(&engine, request).await;
    assert_eq!(outputs.stdout.0, input);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_the_leaders_whoever_holds_the_pipe_and_the_rest_lives_on() {
    let (engine, _trigger) = engine(8);
    let (outcome, outputs) = run(&engine, shell("sleep 600 & echo $!")).await;
    assert_eq!(outcome.ended.unwrap().status.code(), Some(0));
    assert_eq!(outcome.left_running, 1);
    let child = String::from_utf8(outputs.stdout.0).unwrap();
    assert!(alive(child.trim()));
    let pid = rustix::process::Pid::from_raw(child.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_what_hides_its_marker() {
    let (engine, _trigger) = engine(8);
    // The first has a marker beyond the first page of a long environment, the second none, and
    // neither is in the session.
    let script = "export A=1; setsid sh -c 'echo $$; exec sleep 600' & \
                  env -i setsid /bin/sh -c 'trap \"\" TERM; echo $$; while :; do sleep 600; done' & \
                  wait";
    let mut request = Request { timeout: Some(Duration::from_millis(500)), ..shell(script) };
    let long = |n| CString::new(format!("V{n}={}", "x".repeat(100))).unwrap();
    request.spec.env.extend((0..200).map(long));
    request.spec.env.push(c"WORKSPACE_EXEC_ID=another".to_owned());
    let (outcome, outputs) = run(&engine, request).await;
    assert_eq!(outcome.left_running, 0);
    let text = String::from_utf8(outputs.stdout.0).unwrap();
    let pids: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(pids.len(), 2, "{text}");
    assert!(pids.iter().all(|pid| !alive(pid)), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_the_whole_tree_even_what_ignores_term_or_left_the_session() {
    let (engine, _trigger) = engine(8);
    let script = "trap '' TERM; (setsid sh -c 'trap \"\" TERM; echo $$; sleep 600' &) ; \
                  echo $$; while :; do sleep 600; done";
    let request = Request { timeout: Some(Duration::from_millis(500)), ..shell(script) };
    let (outcome, outputs) = run(&engine, request).await;
    assert!(outcome.timed_out());
    assert_eq!(outcome.left_running, 0);
    let text = String::from_utf8(outputs.stdout.0).unwrap();
    let pids: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(pids.len(), 2, "{text}");
    assert!(pids.iter().all(|pid| !alive(pid)));
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_running_command_ends_it() {
    let (engine, trigger) = engine(8);
    let outputs = Outputs { stdout: Kept::default(), stderr: Kept::default() };
    let running = engine.start(shell("sleep 600"), outputs).unwrap();
    let pid = running.pid.to_string();
    drop(running);
    trigger.finished().await;
    assert!(!alive(&pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_and_the_drain_refuse_new_commands() {
    let (engine, trigger) = engine(1);
    let outputs = || Outputs { stdout: Kept::default(), stderr: Kept::default() };
    let first = engine.start(shell("sleep 600"), outputs()).unwrap();
    assert!(matches!(engine.start(shell("true"), outputs()), Err(Refusal::TooMany(1))));
    trigger.start();
    let (outcome, _) = first.wait().await.unwrap();
    assert!(!outcome.timed_out());
    assert!(matches!(engine.start(shell("true"), outputs()), Err(Refusal::Draining)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cut_leaves_no_grace() {
    let (engine, trigger) = engine(1);
    let script = "trap '' TERM; while :; do sleep 600; done";
    let request = Request { kill_grace: Duration::from_secs(3600), ..shell(script) };
    let outputs = Outputs { stdout: Kept::default(), stderr: Kept::default() };
    let running = engine.start(request, outputs).unwrap();
    trigger.start();
    trigger.cut();
    trigger.finished().await;
    let (outcome, _) = running.wait().await.unwrap();
    assert!(outcome.ended.unwrap().status.signal().is_some());
    assert_eq!(outcome.left_running, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_one_of_many_short_commands_reports_its_own_status() {
    let (engine, _trigger) = engine(64);
    let engine = &engine;
    let runs = (0..200_i32).map(|n| async move {
        let code = n % 100;
        let (outcome, _) = run(engine, shell(&format!("exit {code}"))).await;
        assert_eq!(outcome.ended.unwrap().status.code(), Some(code));
    });
    futures_util::stream::iter(runs).buffer_unordered(16).collect::<Vec<()>>().await;
    assert_eq!(engine.running(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_stdin_is_fed_until_it_is_closed() {
    let (engine, _trigger) = engine(8);
    let mut request = Request { stdin: Stdin::Open, ..shell("cat") };
    request.spec.pipe_stdin = true;
    let outputs = Outputs { stdout: Kept::default(), stderr: Kept::default() };
    let running = engine.start(request, outputs).unwrap();
    let id = running.id.clone();
    engine.stdin(&id).unwrap().send("abc".into()).await.unwrap();
    engine.stdin(&id).unwrap().send("def".into()).await.unwrap();
    engine.close_stdin(&id);
    let (_, outputs) = running.wait().await.unwrap();
    assert_eq!(outputs.stdout.0, b"abcdef");
    assert!(engine.stdin(&id).is_none());
}
