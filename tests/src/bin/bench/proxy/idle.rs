//! The memory of tunnels that stand and are silent, by thousands.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
};

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{
    contender::{self, Contender, Running, Way},
    wire::Wire,
};
use crate::{
    row::{Measured, Role, Row, Target, Unit},
    series::Series,
};

const TUNNELS: usize = 7_800;
const DESCRIPTORS: u64 = 65_536;

/// KiB of resident memory that each of `tunnels` idle ones takes.
pub(crate) fn measure(tunnels: usize) -> Result<Vec<Row>> {
    let what = format!("proxy: memory (RSS) of one of {tunnels} idle tunnels");
    let origin = hold(tunnels)?;
    let contenders = Contender::all(Way::Tunnel, origin)?;
    let measured = |it: &Contender| -> Measured {
        let each = each(it.running.as_ref().map_err(String::clone)?, tunnels);
        each.map(Series::single).map_err(|error| format!("failed: {error:#}"))
    };
    let (ours, peers) = contenders.split_first().context("nobody to measure")?;
    let row = Row::new(what, Unit::KibiBytes, measured(ours)).target(Target::AtMost(5.0));
    let peers = peers.iter().filter(|peer| peer.role == Role::Peer);
    // mitmproxy takes minutes for as many.
    let peers = peers.filter(|peer| peer.name != "mitmproxy");
    Ok(peers.map(|peer| row.clone().beside(Role::Peer, peer.name, measured(peer))).collect())
}

fn each(running: &Running, tunnels: usize) -> Result<f64> {
    let before = running.resident_kib()?;
    let hello = contender::hello();
    let mut open = Vec::new();
    for number in 0..tunnels {
        let mut wire = Wire::tunnel(running.address, running.checked.as_deref())
            .with_context(|| format!("tunnel {number}"))?;
        wire.greet(&hello).with_context(|| format!("tunnel {number}"))?;
        open.push(wire.idle());
    }
    Ok((running.resident_kib()? - before) / tunnels as f64)
}

/// An origin without a thread for each connection: it greets once and keeps them all.
fn hold(tunnels: usize) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            if held.len() == tunnels {
                // One contender is done, and its ends are closed.
                held.clear();
            }
            let mut buffer = [0; 1024];
            if stream.read(&mut buffer).is_ok_and(|read| read > 0) && stream.write_all(b"!").is_ok()
            {
                held.push(stream);
            }
        }
    });
    Ok(address)
}

/// Raises the limit on descriptors, which the contenders inherit, as far as it goes, and says for how
/// many tunnels it is enough: each takes two, and half of one more for the pipes of HAProxy.
pub(crate) fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(DESCRIPTORS).min(DESCRIPTORS);
    // As many as there were before are enough for everything else.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..limit });
    let there = if raised.is_ok() { Some(most) } else { limit.current };
    let there = there.and_then(|there| usize::try_from(there).ok()).unwrap_or(0);
    (there.saturating_sub(500) * 2 / 5).min(TUNNELS)
}
