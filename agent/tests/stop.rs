//! The end of the agent on the real kernel: whatever a command has left running ends with it.
//!
//! In a test program of its own: every child of its process is ended.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{ffi::CString, sync::Arc, time::Duration};

use workspace_agent::{
    metrics::Metrics,
    supervise::{
        Engine, Request, Settings, Stdin,
        output::{Keeping, Stream, record::Keep, ring::Piece},
        process::OnDisconnect,
        reap::Reaper,
        spawn::CommandSpec,
        table::{self, Table},
        task::{Background, Ending},
    },
};
use workspace_common::drain::{self, Drain};

fn engine(drain: Drain) -> Engine {
    let keep = table::Keep { count: 8, time: Duration::from_secs(600) };
    let (reaper, table) = (Reaper::start(&drain).unwrap(), Table::start(keep, &drain));
    let settings = Settings { max_processes: 8, output_memory: 1 << 20, cgroups: None };
    Engine::new(reaper, drain, Arc::new(Metrics::new().unwrap()), table, settings)
}

fn alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_commands_have_left_running_ends_with_the_agent() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let (_trigger, drain) = drain::channel();
    let engine = engine(drain);
    // The second is an orphan without the marker, in a session of its own.
    let script = "sleep 600 & echo $!; \
                  env -i setsid /bin/sh -c 'sleep 600 > /dev/null & echo $!'";
    let c = |text: &str| CString::new(text).unwrap();
    let kill_grace = Duration::from_millis(100);
    let request = Request {
        id: None,
        spec: CommandSpec {
            argv: vec![c("/bin/sh"), c("-c"), c(script)],
            cwd: "/".into(),
            env: vec![c("PATH=/usr/bin:/bin")],
            ..CommandSpec::default()
        },
        stdin: Stdin::Null,
        ending: Ending { timeout: None, kill_grace, background: Background::Keep },
        on_disconnect: OnDisconnect::Keep,
        keeping: Keeping { keep: Keep::tail(1024), backpressure: false, spool: None },
    };
    let start = engine.detach(request).unwrap();
    start.process().ended().await;
    let Piece::Data(text) = start.process().output().look(Stream::Stdout, |all| all.read(0, 1024))
    else {
        panic!("nothing was written");
    };
    let text = std::str::from_utf8(&text).unwrap();
    let pids: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(pids.len(), 2, "{text}");
    assert!(pids.iter().all(|pid| alive(pid)), "{text}");
    // The second one's shell, too, may be alive still.
    let sweep = engine.end_all(Duration::from_millis(100)).await;
    assert!(sweep.killed >= 2, "{sweep:?}");
    assert_eq!(sweep.survivors, []);
    assert!(pids.iter().all(|pid| !alive(pid)), "{text}");
}
