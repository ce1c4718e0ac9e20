//! The memory of tunnels that stand and are silent, by thousands; and whether a request beside them
//! takes longer.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{
    TIME,
    contender::{self, Contender, Known, Running, Way},
    holder::Holder,
    peers,
    wire::Wire,
};
use crate::{
    bounded, descriptors,
    load::closed_loop,
    pace, progress,
    row::{Measured, Role, Row, Target, Unit},
    series::Series,
};

const FEW: usize = 10;
const SOME: usize = 1_000;
/// Or what the limit on descriptors permits: each takes two of a proxy.
const MANY: usize = 10_000;
/// For all tunnels of one contender.
const LIMIT: Duration = Duration::from_secs(60);

/// KiB of resident memory that each of many idle ones takes, and how that and a request beside them
/// grow from few to many.
pub(crate) fn measure() -> Result<Vec<Row>> {
    let most = descriptors::room_for_pairs(if pace::is_quick() { SOME + 1 } else { MANY });
    let what = format!("proxy: memory (RSS) of one of {most} idle tunnels");
    let ours = ours(most)?;
    let each = (ours[2].resident - ours[0].resident) / (most - FEW) as f64;
    let each = Row::new(what, Unit::KibiBytes, Ok(Series::single(each)));
    let mut rows = Vec::new();
    for (name, start) in peers::of(&Way::Tunnel) {
        progress::say(format!("  {most} idle tunnels of {name}"));
        rows.push(each.clone().beside(Role::Peer, name, of_peer(name, *start, most)));
    }
    if let Some(first) = rows.first_mut() {
        first.target = Some(Target::AtMost(5.0));
    }
    rows.extend(growth(&ours));
    Ok(rows)
}

/// Ours with so many idle tunnels.
struct Crowded {
    tunnels: usize,
    /// KiB.
    resident: f64,
    /// Milliseconds of a request through one more, in the middle.
    request: f64,
}

fn ours(most: usize) -> Result<Vec<Crowded>> {
    progress::say(format!("  {most} idle tunnels of ours"));
    let holder = Holder::start()?;
    let running = contender::ours(&Way::Tunnel, holder.address, Known::default())?;
    let mut open = Vec::new();
    let at = |tunnels: usize| {
        grow(&running, &mut open, tunnels)?;
        let request = closed_loop(1, pace::time(TIME), || super::request(&running))?.percentile(50);
        Ok(Crowded { tunnels, resident: running.resident_kib()?, request })
    };
    [FEW, SOME, most].into_iter().map(at).collect()
}

fn growth(ours: &[Crowded]) -> Vec<Row> {
    let Some((few, more)) = ours.split_first() else { return Vec::new() };
    let single = |figure: f64| -> Measured { Ok(Series::single(figure)) };
    let row = |crowded: &Crowded| {
        let what = format!("{} idle tunnels", crowded.tunnels);
        let memory = format!("proxy: memory (RSS) with {what}");
        let memory = Row::new(memory, Unit::MebiBytes, single(crowded.resident / 1024.0));
        let request = format!("proxy: request through a tunnel, 1 client, p50, beside {what}");
        let request = Row::new(request, Unit::Milliseconds, single(crowded.request));
        [
            memory.beside(Role::Floor, "with 10", single(few.resident / 1024.0)),
            request.beside(Role::Floor, "with 10", single(few.request)),
        ]
    };
    more.iter().flat_map(row).collect()
}

/// A peer has an origin of its own, so that nothing of the one before it is held.
fn of_peer(name: &'static str, start: peers::Start, tunnels: usize) -> Measured {
    let measured = || -> Result<Measured> {
        let holder = Holder::start()?;
        let peer = Contender::start(name, start, &Way::Tunnel, holder.address);
        let running = match &peer.running {
            Ok(running) => running,
            Err(reason) => return Ok(Err(reason.clone())),
        };
        let mut open = Vec::new();
        grow(running, &mut open, FEW)?;
        let before = running.resident_kib()?;
        grow(running, &mut open, tunnels)?;
        let each = (running.resident_kib()? - before) / (tunnels - FEW) as f64;
        Ok(Ok(Series::single(each)))
    };
    measured().unwrap_or_else(|error| Err(bounded::reason(&error)))
}

/// Opens tunnels, one after the other, until there are so many.
fn grow(running: &Running, open: &mut Vec<std::net::TcpStream>, to: usize) -> Result<()> {
    let (hello, begun) = (contender::hello(), Instant::now());
    for number in open.len()..to {
        ensure!(begun.elapsed() < LIMIT, "{number} tunnels stood after {LIMIT:?}");
        let mut wire = Wire::tunnel(running.address, running.checked.as_deref())
            .with_context(|| format!("tunnel {number}"))?;
        wire.greet(&hello).with_context(|| format!("tunnel {number}"))?;
        open.push(wire.idle());
    }
    Ok(())
}
