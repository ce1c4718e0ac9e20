//! The memory of tunnels that stand and are silent, by thousands.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
};

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::{
    contender::{self, Contender, Running, Way},
    wire::Wire,
};
use crate::{
    row::{Measured, Role, Row, Target, Unit},
    series::Series,
};

const TUNNELS: usize = 10_000;
const DESCRIPTORS: u64 = 65_536;

/// KiB of resident memory that each of many idle tunnels takes, where there may be as many.
pub(crate) fn measure(allowed: Result<()>) -> Result<Vec<Row>> {
    let what = format!("proxy: memory (RSS) of one of {TUNNELS} idle tunnels");
    if let Err(error) = allowed {
        return Ok(vec![Row::new(what, Unit::KibiBytes, Err(format!("{error:#}")))]);
    }
    let origin = hold()?;
    let contenders = Contender::all(Way::Tunnel, origin)?;
    let measured = |it: &Contender| -> Measured {
        let each = each(it.running.as_ref().map_err(String::clone)?);
        each.map(Series::single).map_err(|error| format!("failed: {error:#}"))
    };
    let (ours, peers) = contenders.split_first().context("nobody to measure")?;
    let row = Row::new(what, Unit::KibiBytes, measured(ours)).target(Target::AtMost(5.0));
    let peers = peers.iter().filter(|peer| peer.role == Role::Peer);
    // mitmproxy takes minutes for as many.
    let peers = peers.filter(|peer| peer.name != "mitmproxy");
    Ok(peers.map(|peer| row.clone().beside(Role::Peer, peer.name, measured(peer))).collect())
}

fn each(running: &Running) -> Result<f64> {
    let before = running.resident_kib()?;
    let hello = contender::hello();
    let mut open = Vec::new();
    for number in 0..TUNNELS {
        let mut wire = Wire::tunnel(running.address, running.checked.as_deref())
            .with_context(|| format!("tunnel {number}"))?;
        wire.greet(&hello).with_context(|| format!("tunnel {number}"))?;
        open.push(wire.idle());
    }
    Ok((running.resident_kib()? - before) / TUNNELS as f64)
}

/// An origin without a thread for each connection: it greets once and keeps them all.
fn hold() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let mut buffer = [0; 1024];
            if stream.read(&mut buffer).is_ok() && stream.write_all(b"!").is_ok() {
                held.push(stream);
            }
            // Those of the contender before the last are gone at the other end.
            if held.len() > 2 * TUNNELS {
                held.drain(..TUNNELS);
            }
        }
    });
    Ok(address)
}

/// Each tunnel is two descriptors here and two in the proxy, which inherits the limit. Only root may
/// raise it beyond the hard one.
pub(crate) fn raise_limit() -> Result<()> {
    let enough = Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) };
    setrlimit(Resource::Nofile, enough).context("idle tunnels need 65536 descriptors: ulimit -n")
}
