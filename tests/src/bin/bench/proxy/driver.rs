//! The driver of the load itself, beside wrk: the same clients for the same target. What it takes of
//! the processor, which it shares with what it measures, is in every figure here.

use std::{net::SocketAddr, process::Command};

use anyhow::{Context, Result};
use workspace_tests::process::free_address;

use super::{MANY, TIME, contender::Running, load, origin, peers, request};
use crate::{
    bounded, pace, progress,
    row::{Measured, Role, Row, Target, Unit},
    series::Series,
};

const ROUNDS: usize = 5;

/// Requests a second of nginx as it answers both.
pub(super) fn measure() -> Result<Vec<Row>> {
    let what = "driver of the load: requests of 1 KiB to nginx, 32 clients";
    let row = |ours: Measured| Row::new(what, Unit::PerSecond, ours);
    for program in ["nginx", "wrk"] {
        if !peers::is_installed(program) {
            return Ok(vec![row(Err(format!("{program} is not installed")))]);
        }
    }
    let address = free_address()?;
    let answer = format!("location / {{ return 200 {}; }}", "a".repeat(origin::SMALL));
    let nginx = peers::nginx(address, "", &format!("listen {address}; {answer}"))?;
    let running = Running::plain(address, Some(nginx));
    let (mut ours, mut wrk) = (Vec::new(), Vec::new());
    progress::say("  the driver and wrk");
    for _ in 0..pace::rounds(ROUNDS) {
        ours.push(load(&running, MANY, request)?[0]);
        wrk.push(by_wrk(address));
    }
    let wrk: Result<Series> = wrk.into_iter().collect();
    let wrk = wrk.map_err(|error| bounded::reason(&error));
    let row = row(Ok(ours.into_iter().collect())).beside(Role::Peer, "wrk", wrk);
    Ok(vec![row.target(Target::RatioWithin(0.1))])
}

/// Requests a second, as wrk counts them with two threads. Its time is in whole seconds.
fn by_wrk(address: SocketAddr) -> Result<f64> {
    let (clients, time) = (format!("-c{MANY}"), format!("-d{}s", TIME.as_secs()));
    let url = format!("http://{address}/small");
    let mut command = Command::new("wrk");
    let output = bounded::run(command.args(["-t2", &clients, &time, &url]))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let rate = said.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    Ok(rate.with_context(|| format!("wrk said {said}"))?.trim().parse()?)
}
