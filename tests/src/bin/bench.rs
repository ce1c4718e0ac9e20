//! The figures of both binaries, measured side by side with their floors in one run: medians over
//! interleaved rounds, written as a table and to `target/bench.json`. Asserts nothing: speed is
//! reported, not tested.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use workspace_tests::{
    agent::{self, Agent},
    binaries,
    http::{Client, Connection, Endpoint},
    proxy,
};

/// Rounds of the quick measurements.
const ROUNDS: usize = 300;
/// Rounds of those that start a process.
const STARTS: usize = 21;
/// Files of the small push, and their size.
const FILES: usize = 10;
const FILE_BYTES: usize = 4096;

fn main() -> Result<()> {
    let figures = [sizes()?, starts_and_memory()?, exec()?, push()?].concat();
    let cores = std::thread::available_parallelism()?;
    println!("{cores} cores; medians; ratio = ours / other");
    println!("{:44} {:>12} {:>12} {:>7}", "what", "ours", "other", "ratio");
    for figure in &figures {
        println!("{}", figure.line());
    }
    let report: Vec<Value> = figures.iter().map(Figure::json).collect();
    let path = binaries::repository().join("target/bench.json");
    fs::write(&path, serde_json::to_string_pretty(&report)?)?;
    println!("written to target/bench.json");
    Ok(())
}

#[derive(Clone)]
struct Figure {
    what: String,
    unit: &'static str,
    ours: f64,
    other: Option<(&'static str, f64)>,
}

impl Figure {
    fn alone(what: impl Into<String>, unit: &'static str, ours: f64) -> Self {
        Self { what: what.into(), unit, ours, other: None }
    }

    fn line(&self) -> String {
        let ours = format!("{:.2} {}", self.ours, self.unit);
        let Some((name, other)) = self.other else {
            return format!("{:44} {ours:>12}", self.what);
        };
        let ratio = self.ours / other;
        let other = format!("{other:.2} {}", self.unit);
        format!("{:44} {ours:>12} {other:>12} {ratio:>7.2}  ({name})", self.what)
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what, "unit": self.unit, "ours": self.ours,
            "other": self.other.map(|(name, value)| json!({"name": name, "value": value})),
        })
    }
}

fn median(mut samples: Vec<Duration>) -> f64 {
    samples.sort_unstable();
    samples.get(samples.len() / 2).map_or(f64::NAN, |sample| sample.as_secs_f64() * 1000.0)
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<Duration> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed())
}

fn sizes() -> Result<Vec<Figure>> {
    let size = |name: &str| -> Result<Figure> {
        let bytes = fs::metadata(binaries::path(name))?.len() as f64;
        Ok(Figure::alone(format!("size of {name}"), "MiB", bytes / 1_048_576.0))
    };
    Ok(vec![size("workspace-agent")?, size("workspace-proxy")?])
}

/// From the start of the process to its first answer, asked for without a pause; and its memory
/// when it has answered.
fn starts_and_memory() -> Result<Vec<Figure>> {
    let mut times = (Vec::new(), Vec::new());
    let mut memory = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let setup = agent::Setup::new()?;
        let socket = Endpoint::Unix(setup.directory().join("agent.sock"));
        let (time, rss) = first_answer(setup.command(), &socket, "/health")?;
        times.0.push(time);
        memory.0.push(rss);
        let setup = proxy::Setup::new()?;
        let (tcp, admin) =
            (workspace_tests::process::free_address()?, workspace_tests::process::free_address()?);
        let (time, rss) =
            first_answer(setup.command(tcp, admin)?, &Endpoint::Tcp(admin), "/healthz")?;
        times.1.push(time);
        memory.1.push(rss);
    }
    let middle = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(STARTS / 2).copied().unwrap_or(f64::NAN)
    };
    Ok(vec![
        Figure::alone("agent: start to first answer", "ms", median(times.0)),
        Figure::alone("proxy: start to first answer", "ms", median(times.1)),
        Figure::alone("agent: idle memory (RSS)", "MiB", middle(memory.0)),
        Figure::alone("proxy: idle memory (RSS)", "MiB", middle(memory.1)),
    ])
}

fn first_answer(mut command: Command, at: &Endpoint, path: &str) -> Result<(Duration, f64)> {
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let client = Client::new(at.clone());
    let answered = loop {
        if let Ok(answer) = client.get(path) {
            break answer.status();
        }
        ensure!(begun.elapsed() < Duration::from_secs(10), "{at} did not answer");
    };
    let time = begun.elapsed();
    ensure!(answered == 200, "{at} answered {answered}");
    let rss = resident(child.id())?;
    child.kill()?;
    child.wait()?;
    Ok((time, rss))
}

fn resident(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).context("no VmRSS")?;
    Ok(kib.parse::<f64>()? / 1024.0)
}

/// `/bin/true` through the agent on one kept connection, against a bare spawn with the same pipes,
/// working directory and a small environment.
fn exec() -> Result<Vec<Figure>> {
    let agent = Agent::start()?;
    let request = agent.client.request("POST", "/v1/exec", br#"{"argv":["/bin/true"]}"#);
    let mut connection = Connection::open(agent.client.endpoint())?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(timed(|| {
            connection.send(&request)?;
            let reply = connection.read_response("POST")?;
            ensure!(reply.status() == 200, "{}", reply.text());
            Ok(())
        })?);
        bare.push(timed(|| bare_true(&agent.root()))?);
    }
    Ok(vec![Figure {
        what: "agent: exec /bin/true, UDS, kept connection".into(),
        unit: "ms",
        ours: median(ours),
        other: Some(("bare spawn with pipes", median(bare))),
    }])
}

fn bare_true(directory: &Path) -> Result<()> {
    let output = Command::new("/bin/true")
        .current_dir(directory)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .output()?;
    ensure!(output.status.success());
    Ok(())
}

/// Ten small files through `push`, the start of the client included, against one exec with base64
/// for each file, as the predecessor did it.
fn push() -> Result<Vec<Figure>> {
    let agent = Agent::start()?;
    let local = tempfile::tempdir()?;
    for number in 0..FILES {
        fs::write(local.path().join(format!("{number}.txt")), vec![b'x'; FILE_BYTES])?;
    }
    let source = local.path().to_string_lossy().into_owned();
    let (mut ours, mut one_by_one) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        ours.push(timed(|| {
            let output = agent.run_cli("push", &[&source, "pushed"])?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Ok(())
        })?);
        one_by_one.push(timed(|| exec_each_file(&agent))?);
    }
    Ok(vec![Figure {
        what: format!("agent: push {FILES} files of {FILE_BYTES} bytes, with the CLI"),
        unit: "ms",
        ours: median(ours),
        other: Some(("one exec with base64 a file", median(one_by_one))),
    }])
}

fn exec_each_file(agent: &Agent) -> Result<()> {
    let content = STANDARD.encode(vec![b'x'; FILE_BYTES]);
    for number in 0..FILES {
        let line = format!("mkdir -p each && echo {content} | base64 -d > each/{number}.txt");
        let reply = agent.shell(&line)?;
        ensure!(reply["exit_code"] == 0, "{reply}");
    }
    Ok(())
}
