//! What a decision costs with few and with many patterns, and what loading them does.
//!
//! `cargo bench -p workspace-proxy --bench policy`. Nothing here fails: it prints a table.

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};

use workspace_proxy::config::{Settings, Sources};
use workspace_proxy::host::HostPort;
use workspace_proxy::policy::{Access, Policy, Question, decide};

const SIZES: [usize; 3] = [10, 1_000, 100_000];
/// Decisions in one measurement.
const ROUNDS: u32 = 200_000;
/// Measurements, of which the median is shown.
const REPEATS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{:>9} {:>10}  nanoseconds for a decision", "patterns", "load")?;
    for size in SIZES {
        let begun = Instant::now();
        let policy = load(size)?;
        let loaded = begun.elapsed();
        write!(out, "{size:>9} {:>8} ms ", loaded.as_millis())?;
        for (name, authority) in questions(size) {
            let at =
                HostPort::parse_authority(&authority, None).map_err(|error| error.to_string())?;
            write!(out, " {name} {}", median(&policy, &at).as_nanos() / u128::from(ROUNDS))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// A third exact names, a third wildcards, a third address ranges; one deny rule for every ten.
fn load(size: usize) -> Result<Policy, Box<dyn std::error::Error>> {
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
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), text)?;
    let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
    Ok(Settings::load(&sources)?.policy)
}

fn questions(size: usize) -> [(&'static str, String); 6] {
    let last = size - size % 3;
    let n = last - 1;
    [
        ("exact", format!("h{}.example:443", last - 3)),
        ("wildcard", format!("a.b.w{}.example:443", last - 2)),
        ("range", format!("11.{}.{}.{}:443", n / 65_536, n / 256 % 256, n % 256)),
        ("denied", "d0.example:443".to_owned()),
        ("unknown", "nobody.knows.this.name.test:443".to_owned()),
        ("deep", format!("{}example:443", "a.".repeat(100))),
    ]
}

fn median(policy: &Policy, at: &HostPort) -> Duration {
    let mut runs: Vec<Duration> = (0..REPEATS)
        .map(|_| {
            let begun = Instant::now();
            for _ in 0..ROUNDS {
                let question =
                    Question { at: black_box(at), access: Access::Tunnel, request: None };
                drop(black_box(decide(policy, &question)));
            }
            begun.elapsed()
        })
        .collect();
    runs.sort();
    runs.into_iter().nth(REPEATS / 2).unwrap_or_default()
}
