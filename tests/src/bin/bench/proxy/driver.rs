//! The driver of the load itself, beside wrk: as many clients for the same target. Both share the
//! processor with what they measure. What answers as fast as can be shows what a request costs the
//! driver; beside a proxy, which costs more, both have to come to the same figure.

use std::{net::SocketAddr, process::Command};

use anyhow::{Context, Result, ensure};
use workspace_tests::process::free_address;

use super::{
    MANY, TIME,
    contender::{self, Known, Running, Way},
    load, origin, peers, request,
};
use crate::{
    bounded, pace,
    row::{Measured, Role, Row, Target, Unit},
};

const ROUNDS: usize = 5;

/// Requests a second of nginx alone, and of ours.
pub(super) fn measure(origin: SocketAddr) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    if peers::is_installed("nginx") {
        let address = free_address()?;
        let answer = format!("location / {{ return 200 {}; }}", "a".repeat(origin::SMALL));
        let nginx = peers::nginx(address, "", &format!("listen {address}; {answer}"))?;
        rows.push(beside_wrk("nginx alone", &Running::plain(address, Some(nginx)), "/small")?);
    }
    let ours = contender::ours(&Way::Route, origin, Known::default())?;
    let row = beside_wrk("a route of ours", &ours, &contender::route(Known::default()))?;
    rows.push(row.target(Target::RatioWithin(0.1)));
    Ok(rows)
}

fn beside_wrk(target: &str, running: &Running, path: &str) -> Result<Row> {
    let installed = peers::is_installed("wrk");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..pace::rounds(ROUNDS) {
        ours.push(load(running, MANY, request)?[0]);
        theirs.push(if installed {
            by_wrk(running.address, path).map_err(|error| bounded::reason(&error))
        } else {
            Err("not installed".to_owned())
        });
    }
    let what = format!("driver of the load: requests of 1 KiB to {target}, {MANY} clients");
    let theirs: Measured = theirs.into_iter().collect();
    let row = Row::new(what, Unit::PerSecond, Ok(ours.into_iter().collect()));
    Ok(row.beside(Role::Peer, "wrk", theirs))
}

/// Requests a second, as wrk counts them with two threads. Its time is in whole seconds.
fn by_wrk(address: SocketAddr, path: &str) -> Result<f64> {
    let (clients, time) = (format!("-c{MANY}"), format!("-d{}s", TIME.as_secs()));
    let url = format!("http://{address}{path}");
    let output = bounded::run(Command::new("wrk").args(["-t2", &clients, &time, &url]))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "wrk said {said}");
    let rate = said.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    Ok(rate.with_context(|| format!("wrk said {said}"))?.trim().parse()?)
}
