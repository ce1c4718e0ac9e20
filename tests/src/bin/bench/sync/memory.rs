//! The most memory that both ends take for one large file without holes, in and out.
//! `WORKSPACE_BENCH_GIB` is its size; 1 where it is not set.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};

use super::{World, large::write_dense, text};
use crate::{
    process::peak_kib,
    progress,
    row::{Row, Target, Unit},
    series::Series,
};

/// How often the client is looked at: what it had at last is missed by as much at most.
const PAUSE: Duration = Duration::from_millis(2);
const TARGET_MIB: f64 = 32.0;

pub(super) fn measure() -> Result<Vec<Row>> {
    let gib = std::env::var("WORKSPACE_BENCH_GIB").map_or(Ok(1), |text| text.parse::<u64>())?;
    // It is there twice, at most.
    match World::with_room(gib * (2 << 30))? {
        Ok(world) => copied(&world, gib),
        Err(reason) => {
            let what = format!("agent: push of 1 file of {gib} GiB, most memory (RSS)");
            Ok(vec![Row::new(what, Unit::MebiBytes, Err(reason))])
        }
    }
}

fn copied(world: &World, gib: u64) -> Result<Vec<Row>> {
    progress::say(format!("  push and pull of {gib} GiB"));
    let source = world.local.path().join("dense");
    fs::create_dir(&source)?;
    write_dense(&source.join("file"), gib << 30)?;
    let pushed = client_peak(world.agent.cli("push").args([text(&source)?, "dense"]))?;
    let agent_pushed = peak_kib(world.agent.daemon.pid())?;
    // No place for it three times.
    fs::remove_dir_all(&source)?;
    let pulled = client_peak(world.agent.cli("pull").args(["dense", text(&source)?]))?;
    let agent_both = peak_kib(world.agent.daemon.pid())?;
    let row = |what: &str, kib: f64| {
        let what = format!("{what} 1 file of {gib} GiB, most memory (RSS)");
        let row = Row::new(what, Unit::MebiBytes, Ok(Series::single(kib / 1024.0)));
        row.target(Target::AtMost(TARGET_MIB))
    };
    Ok(vec![
        row("agent: push of", agent_pushed),
        row("client: push of", pushed),
        row("agent: push, then pull of", agent_both),
        row("client: pull of", pulled),
    ])
}

/// Runs a client to its end and gives the most memory that it was seen to have had, in KiB.
fn client_peak(command: &mut Command) -> Result<f64> {
    let mut client = command.stdout(Stdio::null()).spawn()?;
    let mut peak: f64 = 0.0;
    let status = loop {
        if let Some(status) = client.try_wait()? {
            break status;
        }
        // One that has just ended has no memory any more.
        peak = peak.max(peak_kib(client.id()).unwrap_or(0.0));
        thread::sleep(PAUSE);
    };
    ensure!(status.success(), "{command:?}: {status}");
    Ok(peak)
}
