//! The figures of both binaries, measured side by side with their floors and peers in one run:
//! interleaved rounds, medians, ratios and their spread, held against the targets. Asserts nothing:
//! speed is reported, not tested.
//!
//! `workspace-bench [SUBJECT…]` measures these subjects, or all of them; prints a table, and writes
//! it to `target/bench` as Markdown and as JSON.

mod bounded;
mod bulk;
mod containers;
mod contest;
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

use std::fs;

use anyhow::{Result, anyhow};
use workspace_tests::binaries;

use crate::{machine::Machine, report::Report, row::Row};

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
    Tunnels,
    Requests,
}

impl Subject {
    const ALL: [Self; 9] = [
        Self::Sizes,
        Self::Start,
        Self::Exec,
        Self::Bulk,
        Self::Memory,
        Self::Sync,
        Self::Policy,
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
            Self::Tunnels => proxy::tunnels(),
            Self::Requests => proxy::requests(),
        }
    }
}

fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some(proxy::HOLD) {
        return proxy::hold();
    }
    let chosen =
        std::env::args().skip(1).map(|name| Subject::parse(&name)).collect::<Result<Vec<_>>>()?;
    let machine = Machine::look()?;
    let mut rows = Vec::new();
    for subject in Subject::ALL {
        if chosen.is_empty() || chosen.contains(&subject) {
            progress::say(format!("measuring {} …", subject.name()));
            rows.extend(subject.measure()?);
        }
    }
    publish(&Report { machine, rows })
}

fn publish(report: &Report) -> Result<()> {
    let directory = binaries::repository().join("target/bench");
    let table = report.markdown();
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("report.md"), &table)?;
    fs::write(directory.join("report.json"), serde_json::to_string_pretty(&report.json())?)?;
    println!("{table}\nwritten to target/bench/report.md and report.json");
    Ok(())
}
