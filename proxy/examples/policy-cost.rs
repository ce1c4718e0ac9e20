//! What a decision costs with few and with many patterns, and how much room they take.
//!
//! `cargo run --release -p workspace-proxy --example policy-cost`; `make bench` runs it too. Nothing
//! here fails: it prints a line of JSON for each number of patterns. Times are nanoseconds for one
//! decision, one for each round.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value, json};
use workspace_proxy::config::{Settings, Sources};
use workspace_proxy::host::HostPort;
use workspace_proxy::policy::{Policy, Question, decide};

const SIZES: [usize; 3] = [10, 1_000, 100_000];
/// Decisions in one round.
const DECISIONS: u32 = 200_000;
const ROUNDS: usize = 5;
/// Policies that are held at once to see how much room one takes.
const HELD: usize = 8;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    for size in SIZES {
        writeln!(out, "{}", measure(size)?)?;
    }
    Ok(())
}

fn measure(size: usize) -> Outcome<Value> {
    let text = written(size)?;
    let begun = Instant::now();
    let policy = load(&text)?;
    let load_ms = begun.elapsed().as_millis();
    let mut decisions = Map::new();
    for (kind, authority) in questions(size) {
        let at = HostPort::parse_authority(&authority, None).map_err(|error| error.to_string())?;
        let decision = || drop(black_box(decide(&policy, &Question::tunnel(black_box(&at)))));
        decisions.insert(kind.to_owned(), rounds(decision).into());
    }
    let names: HashMap<String, usize> = (0..size).map(|n| (format!("h{n}.example"), n)).collect();
    let name = format!("h{}.example", size / 2);
    let floor = rounds(|| {
        black_box(names.get(black_box(&name)));
    });
    Ok(json!({
        "patterns": size,
        "load_ms": u64::try_from(load_ms)?,
        "decisions_ns": decisions,
        "hash_ns": floor,
        "bytes_per_pattern": bytes_each(size, &text)?,
    }))
}

/// A third exact names, a third wildcards, a third addresses; one deny rule for every ten.
fn written(size: usize) -> Outcome<String> {
    let mut text = String::from("version: 1\negress:\n  allow:\n");
    for n in 0..size {
        let host = match n % 3 {
            0 => format!("h{n}.example"),
            1 => format!("'*.w{n}.example'"),
            _ => format!("11.{}.{}.{}/32", n / 65_536, n / 256 % 256, n % 256),
        };
        writeln!(text, "  - {{host: {host}, ports: [443]}}")?;
    }
    text.push_str("  deny:\n");
    for n in 0..size.div_ceil(10) {
        writeln!(text, "  - host: d{n}.example")?;
    }
    Ok(text)
}

fn load(text: &str) -> Outcome<Policy> {
    Ok(Settings::compile(&Sources::default(), Some(text))?.policy)
}

fn questions(size: usize) -> [(&'static str, String); 6] {
    let last = size - size % 3;
    let n = last - 1;
    [
        ("exact", format!("h{}.example:443", last - 3)),
        ("wildcard", format!("a.b.w{}.example:443", last - 2)),
        ("address", format!("11.{}.{}.{}:443", n / 65_536, n / 256 % 256, n % 256)),
        ("denied", "d0.example:443".to_owned()),
        ("unknown", "nobody.knows.this.name.test:443".to_owned()),
        ("hundred_labels", format!("{}example:443", "a.".repeat(100))),
    ]
}

/// Nanoseconds for one call, in each round: of this thread's processor time, so that others on the
/// machine count little.
fn rounds(call: impl Fn()) -> Vec<f64> {
    let round = |_| {
        let begun = processor_time();
        for _ in 0..DECISIONS {
            call();
        }
        (processor_time() - begun).as_secs_f64() * 1e9 / f64::from(DECISIONS)
    };
    (0..ROUNDS).map(round).collect()
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The room of one pattern, allow and deny rules alike: what several policies take beyond the first,
/// whose loading has left free memory behind for the others.
fn bytes_each(size: usize, text: &str) -> Outcome<Option<u64>> {
    let mut held = vec![load(text)?];
    let before = resident()?;
    for _ in 0..HELD {
        held.push(load(text)?);
    }
    let grown = resident()?.saturating_sub(before);
    let patterns = u64::try_from((size + size.div_ceil(10)) * HELD)?;
    // Of few patterns nothing is seen in pages.
    Ok((size >= 100_000).then_some(grown / patterns))
}

/// Resident memory of this process, in bytes.
fn resident() -> Outcome<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}
