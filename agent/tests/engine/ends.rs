//! Whole trees ended: by a deadline, by a client that goes, by the stop of the agent.

use std::{ffi::CString, os::unix::process::ExitStatusExt, time::Duration};

use crate::harness::{alive, engine, outcome, run, shell, shell_within, start, words};

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_what_hides_its_marker() {
    let (engine, _trigger) = engine(8);
    // The first has a marker beyond the first page of a long environment, the second none, and
    // neither is in the session.
    let script = "export A=1; setsid sh -c 'echo $$; exec sleep 600' & \
                  env -i setsid /bin/sh -c 'trap \"\" TERM; echo $$; while :; do sleep 600; done' & \
                  wait";
    let mut request = shell_within(script, Duration::from_millis(500));
    let long = |n| CString::new(format!("V{n}={}", "x".repeat(100))).unwrap();
    request.spec.env.extend((0..200).map(long));
    request.spec.env.push(c"WORKSPACE_EXEC_ID=another".to_owned());
    let (outcome, process) = run(&engine, request).await;
    assert_eq!(outcome.left_running, 0);
    let pids = words(&process);
    assert_eq!(pids.len(), 2, "{pids:?}");
    assert!(pids.iter().all(|pid| !alive(pid)), "{pids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_the_whole_tree_even_what_ignores_term_or_left_the_session() {
    let (engine, _trigger) = engine(8);
    let script = "trap '' TERM; (setsid sh -c 'trap \"\" TERM; echo $$; sleep 600' &) ; \
                  echo $$; while :; do sleep 600; done";
    let (outcome, process) = run(&engine, shell_within(script, Duration::from_millis(500))).await;
    assert!(outcome.timed_out());
    assert_eq!((outcome.left_running, outcome.survivors.len()), (0, 0));
    let pids = words(&process);
    assert_eq!(pids.len(), 2, "{pids:?}");
    assert!(pids.iter().all(|pid| !alive(pid)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_forks_while_it_is_being_killed_is_ended_too() {
    let (engine, _trigger) = engine(8);
    // Each of them starts a successor in a session of its own and ends: a chain that never rests.
    let chain = "#!/bin/sh\nexec /bin/sh -c 'setsid \"$0\" & exit' \"$0\"";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chain");
    std::fs::write(&path, chain).unwrap();
    let script = format!("chmod +x {0}; trap '' TERM; {0}; sleep 600", path.display());
    let (outcome, _) = run(&engine, shell_within(&script, Duration::from_millis(300))).await;
    assert!(outcome.timed_out());
    assert_eq!((outcome.left_running, outcome.survivors.len()), (0, 0));
    let left = std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        line.contains(&*path.to_string_lossy())
    });
    assert!(!left, "the chain goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_ends_its_command_unless_another_is_attached() {
    let (engine, _trigger) = engine(8);
    let (process, first) = start(&engine, shell("sleep 600"));
    let second = process.attach();
    drop(first);
    assert_eq!(process.attached(), 1);
    assert!(alive(&process.pid.to_string()));
    drop(second);
    assert_eq!(outcome(&process).await.ended.unwrap().status.signal(), Some(15));
    assert!(!alive(&process.pid.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cut_leaves_no_grace() {
    let (engine, trigger) = engine(1);
    let mut request = shell("trap '' TERM; while :; do sleep 600; done");
    request.ending.kill_grace = Duration::from_secs(3600);
    let (process, _attachment) = start(&engine, request);
    trigger.start();
    trigger.cut();
    trigger.finished().await;
    let outcome = outcome(&process).await;
    assert!(outcome.ended.unwrap().status.signal().is_some());
    assert_eq!(outcome.left_running, 0);
}
