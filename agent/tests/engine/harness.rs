//! An engine, commands for it, and what came of them.

use std::{ffi::CString, sync::Arc, time::Duration};

use workspace_agent::{
    metrics::Metrics,
    supervise::{
        Engine, Request, Settings, Stdin,
        output::{Keeping, Stream, record::Keep, ring::Piece},
        process::{Attachment, OnDisconnect, Process, State},
        reap::Reaper,
        spawn::{CommandSpec, Stdio},
        table::{self, Table},
        task::{Background, Ending, Outcome},
    },
};
use workspace_common::drain::{self, Drain, DrainTrigger};

/// An engine that runs at most `limit` commands at once.
pub(crate) fn engine(limit: u32) -> (Engine, DrainTrigger) {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let (trigger, drain) = drain::channel();
    let settings = Settings { max_processes: limit, output_memory: 64 << 20, cgroups: None };
    let keep = table::Keep { count: 256, time: Duration::from_secs(600) };
    let table = Table::start(keep, &drain);
    let metrics = Arc::new(Metrics::new().unwrap());
    (Engine::new(shared_reaper(&drain), drain, metrics, table, settings), trigger)
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

/// A shell command that ends with its client.
pub(crate) fn shell(script: &str) -> Request {
    let c = |text: &str| CString::new(text).unwrap();
    Request {
        id: None,
        spec: CommandSpec {
            argv: vec![c("/bin/sh"), c("-c"), c(script)],
            cwd: "/".into(),
            env: vec![c("PATH=/usr/bin:/bin")],
            ..CommandSpec::default()
        },
        stdin: Stdin::Null,
        ending: Ending {
            timeout: None,
            kill_grace: Duration::from_millis(100),
            background: Background::Keep,
        },
        on_disconnect: OnDisconnect::Kill,
        keeping: Keeping { keep: Keep::tail(8 << 20), backpressure: false, spool: None },
    }
}

/// The same with a deadline.
pub(crate) fn shell_within(script: &str, timeout: Duration) -> Request {
    let mut request = shell(script);
    request.ending.timeout = Some(timeout);
    request
}

/// The same with standard input.
pub(crate) fn shell_reading(script: &str, stdin: Stdin) -> Request {
    let mut request = Request { stdin, ..shell(script) };
    request.spec.stdio = Stdio::Pipes { stdin: true };
    request
}

/// Starts a command and stays attached to it.
pub(crate) fn start(engine: &Engine, request: Request) -> (Arc<Process>, Attachment) {
    let (start, attachment) = engine.attach(request).unwrap();
    (start.process().clone(), attachment)
}

/// How a command ended.
pub(crate) async fn outcome(process: &Process) -> Outcome {
    match process.ended().await {
        State::Ended(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

/// Runs a command to its end.
pub(crate) async fn run(engine: &Engine, request: Request) -> (Outcome, Arc<Process>) {
    let (process, _attachment) = start(engine, request);
    (outcome(&process).await, process)
}

/// Everything that a command wrote to a stream, as far as it is kept.
pub(crate) fn written(process: &Process, stream: Stream) -> Vec<u8> {
    process.output().look(stream, |record| match record.read(record.tail_start(), usize::MAX) {
        Piece::Data(data) => data.to_vec(),
        Piece::Gap { .. } | Piece::Nothing => Vec::new(),
    })
}

/// The words of its standard output.
pub(crate) fn words(process: &Process) -> Vec<String> {
    let text = String::from_utf8(written(process, Stream::Stdout)).unwrap();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Whether a process is there and not only waiting to be collected.
pub(crate) fn alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
