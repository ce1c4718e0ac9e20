//! What is said of commands that end by themselves.

use std::{os::unix::process::ExitStatusExt, sync::Arc};

use bytes::Bytes;
use futures_util::StreamExt;
use workspace_agent::supervise::{Refusal, Stdin, output::Stream, task::Background};

use crate::harness::{alive, engine, outcome, run, shell, shell_reading, start, words, written};

#[tokio::test(flavor = "multi_thread")]
async fn output_and_exit_code_are_passed_on() {
    let (engine, _trigger) = engine(8);
    let (outcome, process) = run(&engine, shell("echo out; echo err >&2; exit 3")).await;
    assert_eq!(outcome.ended.unwrap().status.code(), Some(3));
    assert_eq!(written(&process, Stream::Stdout), b"out\n");
    assert_eq!(written(&process, Stream::Stderr), b"err\n");
    assert_eq!((outcome.left_running, outcome.killed), (0, 0));
    assert!(!outcome.timed_out());
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_lead_their_session_and_start_with_no_signal_ignored() {
    let (engine, _trigger) = engine(8);
    let script = "grep -E '^Sig(Ign|Blk)' /proc/self/status; cut -d' ' -f6 /proc/$$/stat; echo $$";
    let (_, process) = run(&engine, shell(script)).await;
    let words = words(&process);
    assert_eq!(words[..3], ["SigBlk:", "0000000000000000", "SigIgn:"]);
    // glibc keeps 32 and 33 for itself and ignores them in the child; no program can use them.
    assert!(matches!(&*words[3], "0000000000000000" | "0000000180000000"), "{words:?}");
    assert_eq!(words[4], words[5]);
    let (outcome, _) = run(&engine, shell("kill -9 $$")).await;
    assert_eq!(outcome.ended.unwrap().status.signal(), Some(9));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_input_and_output_pass_at_the_same_time() {
    let (engine, _trigger) = engine(8);
    let input = Bytes::from(vec![b'x'; 3 << 20]);
    let request = shell_reading("cat", Stdin::Bytes(input.clone()));
    let (_, process) = run(&engine, request).await;
    assert_eq!(written(&process, Stream::Stdout), input);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_the_leaders_whoever_holds_the_pipe_and_the_rest_lives_on() {
    let (engine, _trigger) = engine(8);
    let (outcome, process) = run(&engine, shell("sleep 600 & echo $!")).await;
    assert_eq!(outcome.ended.unwrap().status.code(), Some(0));
    assert_eq!((outcome.left_running, outcome.killed), (1, 0));
    assert!(alive(&words(&process)[0]));
    assert_eq!(process.end(None).await.unwrap().killed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_running_is_ended_where_that_is_wanted() {
    let (engine, _trigger) = engine(8);
    let mut request = shell("sleep 600 & echo $!; setsid sleep 600 & echo $!; exit 4");
    request.ending.background = Background::Kill;
    let (outcome, process) = run(&engine, request).await;
    assert_eq!(outcome.ended.unwrap().status.code(), Some(4));
    assert_eq!((outcome.left_running, outcome.killed), (0, 2));
    assert!(words(&process).iter().all(|pid| !alive(pid)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_and_the_drain_refuse_new_commands() {
    let (engine, trigger) = engine(1);
    let (first, _attachment) = start(&engine, shell("sleep 600"));
    assert!(matches!(engine.attach(shell("true")), Err(Refusal::TooMany(1))));
    trigger.start();
    assert!(!outcome(&first).await.timed_out());
    assert!(matches!(engine.attach(shell("true")), Err(Refusal::Draining)));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_one_of_many_short_commands_reports_its_own_status() {
    let (engine, trigger) = engine(64);
    let engine = &engine;
    let runs = (0..200_i32).map(|n| async move {
        let code = n % 100;
        let (outcome, _) = run(engine, shell(&format!("exit {code}"))).await;
        assert_eq!(outcome.ended.unwrap().status.code(), Some(code));
    });
    futures_util::stream::iter(runs).buffer_unordered(16).collect::<Vec<()>>().await;
    trigger.start();
    trigger.finished().await;
    assert_eq!(engine.running(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_stdin_is_fed_until_it_is_closed() {
    let (engine, _trigger) = engine(8);
    let (process, _attachment) = start(&engine, shell_reading("cat", Stdin::Open));
    for part in ["abc", "def"] {
        process.stdin().unwrap().send(part.into()).await.unwrap();
    }
    process.close_stdin().await;
    outcome(&process).await;
    assert_eq!(written(&process, Stream::Stdout), b"abcdef");
    assert!(process.stdin().is_none());
    assert!(Arc::ptr_eq(&process, &engine.table().get(&process.id).unwrap()));
}
