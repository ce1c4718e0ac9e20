//! The figures of both binaries, measured side by side with their floors and peers in one run:
//! interleaved rounds, medians, ratios and their spread, held against the targets. Asserts nothing:
//! speed is reported, not tested.
//!
//! `workspace-bench [SUBJECT…]` measures these subjects, or all of them; prints a table, and writes
//! it to `target/bench` as Markdown and as JSON. `workspace-bench docs` puts the last one into
//! docs/performance.md.

mod bounded;
mod bulk;
mod containers;
mod contest;
mod descriptors;
mod docs;
mod exec;
mod floor;
mod load;
mod machine;
mod memory;
mod pace;
mod policy;
mod process;
mod progress;
mod proxy;
mod report;
mod row;
mod series;
mod server;
mod sizes;
mod start;
mod sync;
mod transfer;

use std::{fs, time::Instant};

use anyhow::{Result, anyhow, ensure};
use workspace_tests::binaries;

use crate::{
    machine::Machine,
    report::Report,
    row::{Row, Unit},
};

/// What is measured, in the order of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Sizes,
    Start,
    Exec,
    Bulk,
    Memory,
    Sync,
    Policy,
    Driver,
    Tunnels,
    Requests,
}

impl Subject {
    const ALL: [Self; 10] = [
        Self::Sizes,
        Self::Start,
        Self::Exec,
        Self::Bulk,
        Self::Memory,
        Self::Sync,
        Self::Policy,
        Self::Driver,
        Self::Tunnels,
        Self::Requests,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Sizes => "sizes",
            Self::Start => "start",
            Self::Exec => "exec",
            Self::Bulk => "bulk",
            Self::Memory => "memory",
            Self::Sync => "sync",
            Self::Policy => "policy",
            Self::Driver => "driver",
            Self::Tunnels => "tunnels",
            Self::Requests => "requests",
        }
    }

    fn parse(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|subject| subject.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            anyhow!("there is no subject '{name}'; there are: {names}")
        })
    }

    fn measure(self) -> Result<Vec<Row>> {
        match self {
            Self::Sizes => sizes::measure(),
            Self::Start => start::measure(),
            Self::Exec => exec::measure(),
            Self::Bulk => bulk::measure(),
            Self::Memory => memory::measure(),
            Self::Sync => sync::measure(),
            Self::Policy => policy::measure(),
            Self::Driver => proxy::driver(),
            Self::Tunnels => proxy::tunnels(),
            Self::Requests => proxy::requests(),
        }
    }
}

/// What the program is asked for.
enum Order {
    /// These subjects, in the order of the report.
    Measure(Vec<Subject>),
    /// The last report into the documentation.
    Document,
    /// To be an origin of idle tunnels, for another of its kind.
    Hold,
}

impl Order {
    fn parse(arguments: &[String]) -> Result<Self> {
        match arguments {
            [one] if one == "docs" => Ok(Self::Document),
            [one] if one == proxy::HOLD => Ok(Self::Hold),
            [] => Ok(Self::Measure(Subject::ALL.into())),
            names => {
                let chosen = names.iter().map(|name| Subject::parse(name));
                let chosen = chosen.collect::<Result<Vec<_>>>()?;
                let ordered = Subject::ALL.into_iter().filter(|it| chosen.contains(it));
                Ok(Self::Measure(ordered.collect()))
            }
        }
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match Order::parse(&arguments)? {
        Order::Measure(subjects) => measure(&subjects),
        Order::Document => docs::publish(),
        Order::Hold => proxy::hold(),
    }
}

fn measure(subjects: &[Subject]) -> Result<()> {
    let (begun, machine) = (Instant::now(), Machine::look()?);
    let mut rows = Vec::new();
    for subject in subjects {
        progress::say(format!("measuring {} …", subject.name()));
        rows.extend(subject.measure().unwrap_or_else(|error| {
            let reason = bounded::reason(&error);
            vec![Row::new(format!("all of {}", subject.name()), Unit::Milliseconds, Err(reason))]
        }));
    }
    let seconds = begun.elapsed().as_secs();
    let report = Report { machine, rows, seconds, quick: pace::is_quick() };
    write(&report)?;
    let failed = report.rows.iter().filter(|row| row.failed()).count();
    ensure!(failed == 0, "in {failed} rows ours did not work");
    Ok(())
}

fn write(report: &Report) -> Result<()> {
    let file = binaries::repository().join(report::FILE);
    let table = report.markdown();
    fs::create_dir_all(file.with_file_name(""))?;
    fs::write(&file, &table)?;
    fs::write(file.with_extension("json"), serde_json::to_string_pretty(&report.json())?)?;
    println!("{table}\nwritten to {} and report.json", report::FILE);
    Ok(())
}
