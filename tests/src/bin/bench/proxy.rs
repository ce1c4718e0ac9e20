//! The proxy beside no proxy and beside its peers: tunnels, forwarded requests, routes that add a
//! header, the memory of idle tunnels, and how its cost grows. All of a kind are up at once and run in
//! turns.

mod contender;
mod driver;
mod growth;
mod holder;
mod idle;
mod origin;
mod peers;
mod rounds;
mod wire;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Result;

pub(crate) use self::holder::{ARGUMENT as HOLD, hold};
use self::{
    contender::{Contender, Running, Way},
    rounds::{added, aimed, interleaved, processor, rows},
    wire::Wire,
};
use crate::{
    load::{Load, closed_loop},
    pace,
    row::{Row, Target, Unit},
};

/// How long each contender runs in each round.
const TIME: Duration = Duration::from_secs(1);
const MANY: usize = 32;
const MEBIBYTE: f64 = 1_048_576.0;
const HAPROXY: &str = "HAProxy";
const NGINX: &str = "nginx, reverse";
const ENVOY: &str = "Envoy";
const MITMPROXY: &str = "mitmproxy";
const NO_PROXY: &str = "no proxy";

/// Tunnels: how many are made, what they add, what goes through, and what an idle one holds.
pub(crate) fn tunnels() -> Result<Vec<Row>> {
    let mut all = Contender::all(&Way::Tunnel, origin::start()?)?;
    let mut rows = made(&mut all)?;
    rows.extend(asked(&mut all)?);
    rows.extend(downloaded(&mut all)?);
    drop(all);
    rows.extend(idle::measure()?);
    Ok(rows)
}

fn made(all: &mut [Contender]) -> Result<Vec<Row>> {
    let many = interleaved("new tunnels, 32 clients", all, |it| load(it, MANY, new_tunnel));
    let alone = interleaved("new tunnels, 1 client", all, |it| load(it, 1, new_tunnel));
    let made = rows(&many, 0, "proxy: new tunnels, 32 clients", Unit::PerSecond);
    let mut made = aimed(made, ENVOY, Target::RatioAtLeast(1.5));
    made.extend(rows(&alone, 1, "proxy: new tunnel, 1 client, p50", Unit::Milliseconds));
    made.extend(rows(&alone, 2, "proxy: new tunnel, 1 client, p99", Unit::Milliseconds));
    Ok(made)
}

fn asked(all: &mut [Contender]) -> Result<Vec<Row>> {
    let many = interleaved("requests in tunnels, 32 clients", all, |it| load(it, MANY, request));
    let alone = interleaved("requests in a tunnel, 1 client", all, |it| load(it, 1, request));
    let what = "proxy: requests of 1 KiB through tunnels, 32 clients";
    let asked = rows(&many, 0, what, Unit::PerSecond);
    let mut asked = aimed(asked, HAPROXY, Target::RatioAtLeast(1.2));
    let what = "proxy: processor time of a request through a tunnel";
    asked.extend(processor(&many, 3, what, Unit::Microseconds));
    asked.extend(added(&alone, "through a tunnel", 0.1));
    Ok(asked)
}

fn downloaded(all: &mut [Contender]) -> Result<Vec<Row>> {
    let bulk = interleaved("download through a tunnel", all, download);
    let what = "proxy: download through a tunnel";
    let speed = rows(&bulk, 0, what, Unit::MebiBytesPerSecond);
    let mut downloaded = aimed(speed, HAPROXY, Target::RatioAtLeast(0.95));
    let what = "proxy: processor time of a GiB through a tunnel";
    let spent = processor(&bulk, 1, what, Unit::Milliseconds);
    downloaded.extend(aimed(spent, HAPROXY, Target::RatioAtMost(1.0)));
    Ok(downloaded)
}

/// The driver of the load, beside another one.
pub(crate) fn driver() -> Result<Vec<Row>> {
    driver::measure(origin::start()?)
}

/// Requests for the proxy to read: absolute-form, and routes that add a header.
pub(crate) fn requests() -> Result<Vec<Row>> {
    let origin = origin::start()?;
    let what = "requests of 1 KiB by absolute-form";
    let beside = [(NGINX, 1.0), (ENVOY, 1.8)];
    let mut rows = of_way(&Way::Forward, what, origin)?.aimed(&beside);
    let what = "requests of 1 KiB on a route that adds a header";
    let beside = [(NGINX, 1.1), (MITMPROXY, 40.0)];
    rows.extend(of_way(&Way::Route, what, origin)?.aimed(&beside));
    match origin::Secure::start()? {
        Ok(secure) => {
            let way = Way::SecureRoute(secure.certificate());
            let what = "the same, to an origin with TLS";
            rows.extend(of_way(&way, what, secure.address())?.aimed(&beside));
        }
        Err(reason) => {
            rows.push(Row::new("proxy: to an origin with TLS", Unit::PerSecond, Err(reason)));
        }
    }
    rows.extend(growth::measure(origin)?);
    Ok(rows)
}

/// Requests one way: how many a second, which there are targets for beside others, and what else.
struct Figures {
    asked: Vec<Row>,
    others: Vec<Row>,
}

impl Figures {
    /// Ours answers at least so many times as many as these.
    fn aimed(mut self, beside: &[(&str, f64)]) -> Vec<Row> {
        for (name, least) in beside {
            self.asked = aimed(self.asked, name, Target::RatioAtLeast(*least));
        }
        [self.asked, self.others].concat()
    }
}

fn of_way(way: &Way, what: &str, origin: SocketAddr) -> Result<Figures> {
    let mut all = Contender::all(way, origin)?;
    let many = interleaved(&format!("{what}, 32 clients"), &mut all, |it| load(it, MANY, request));
    let alone = interleaved(&format!("{what}, 1 client"), &mut all, |it| load(it, 1, request));
    let each = format!("proxy: processor time of {what}, each");
    let asked = rows(&many, 0, &format!("proxy: {what}, 32 clients"), Unit::PerSecond);
    let spent = processor(&many, 3, &each, Unit::Microseconds);
    Ok(Figures { asked, others: [spent, added(&alone, &format!("by {what}"), 0.3)].concat() })
}

/// Operations a second, p50 and p99 in milliseconds, processor time of the proxy in microseconds each.
fn load<W: FnMut() -> Result<()> + Send>(
    running: &Running,
    clients: usize,
    make: impl Fn(&Running) -> Result<W>,
) -> Result<[f64; 4]> {
    let before = running.cpu()?;
    let load: Load = closed_loop(clients, pace::time(TIME), || make(running))?;
    let cpu = running.cpu()?.saturating_sub(before).as_secs_f64() * 1e6 / load.count();
    Ok([load.rate(), load.percentile(50), load.percentile(99), cpu])
}

fn new_tunnel(running: &Running) -> Result<impl FnMut() -> Result<()> + Send + use<>> {
    let (address, target) = (running.address, running.checked.clone());
    let hello = contender::hello();
    Ok(move || Wire::tunnel(address, target.as_deref())?.greet(&hello))
}

fn request(running: &Running) -> Result<impl FnMut() -> Result<()> + Send + use<>> {
    let (address, target) = (running.address, running.opaque.clone());
    let (request, keeps) = (running.request.clone(), running.keeps);
    let mut wire = Wire::tunnel(address, target.as_deref())?;
    Ok(move || {
        wire.exchange(&request)?;
        if !keeps {
            wire = Wire::tunnel(address, target.as_deref())?;
        }
        Ok(())
    })
}

/// MiB a second, and milliseconds of the proxy's processor time a GiB.
fn download(running: &Running) -> Result<[f64; 2]> {
    let mut wire = Wire::tunnel(running.address, running.opaque.as_deref())?.for_bulk();
    let (before, begun) = (running.cpu()?, Instant::now());
    let mebibytes = wire.download(origin::BULK_REQUEST, pace::time(TIME * 2))? as f64 / MEBIBYTE;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = running.cpu()?.saturating_sub(before).as_secs_f64();
    Ok([mebibytes / seconds, cpu * 1000.0 * 1024.0 / mebibytes])
}
