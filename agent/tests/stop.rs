//! The end of the agent on the real kernel: whatever a command has left running ends with it.
//!
//! In a test program of its own: every child of its process is ended.

use std::{ffi::CString, sync::Arc, time::Duration};

use bytes::Bytes;
use workspace_agent::{
    metrics::Metrics,
    supervise::{
        Engine, Request, Stdin,
        reap::Reaper,
        spawn::CommandSpec,
        task::{OutputSink, Outputs},
    },
};
use workspace_common::drain;

/// Keeps everything.
#[derive(Debug, Default)]
struct Kept(Vec<u8>);

impl OutputSink for Kept {
    async fn write(&mut self, data: Bytes) {
        self.0.extend_from_slice(&data);
    }
    async fn finish(&mut self) {}
}

fn alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_commands_have_left_running_ends_with_the_agent() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let (_trigger, drain) = drain::channel();
    let engine =
        Engine::new(Reaper::start(&drain).unwrap(), drain, Arc::new(Metrics::new().unwrap()), 8);
    // The second is an orphan without the marker, in a session of its own.
    let script = "sleep 600 & echo $!; \
                  env -i setsid /bin/sh -c 'sleep 600 > /dev/null & echo $!'";
    let c = |text: &str| CString::new(text).unwrap();
    let request = Request {
        spec: CommandSpec {
            argv: vec![c("/bin/sh"), c("-c"), c(script)],
            cwd: "/".into(),
            env: vec![c("PATH=/usr/bin:/bin")],
            pipe_stdin: false,
        },
        stdin: Stdin::Null,
        timeout: None,
        kill_grace: Duration::from_millis(100),
    };
    let outputs = Outputs { stdout: Kept::default(), stderr: Kept::default() };
    let (_, outputs) = engine.start(request, outputs).unwrap().wait().await.unwrap();
    let text = String::from_utf8(outputs.stdout.0).unwrap();
    let pids: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(pids.len(), 2, "{text}");
    assert!(pids.iter().all(|pid| alive(pid)), "{text}");
    // The second one's shell, too, may be alive still.
    let sweep = engine.end_all(Duration::from_millis(100)).await;
    assert!(sweep.killed >= 2, "{sweep:?}");
    assert_eq!(sweep.survivors, 0);
    assert!(pids.iter().all(|pid| !alive(pid)), "{text}");
}
