//! The proxy beside no proxy and beside its peers: tunnels, forwarded requests, routes that add a
//! header, and the memory of idle tunnels. All of a kind are up at once and run in turns.

mod contender;
mod idle;
mod origin;
mod peers;
mod wire;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use self::{
    contender::{Contender, Running, Way},
    wire::Wire,
};
use crate::{
    load::{Load, closed_loop},
    row::{Measured, Role, Row, Target, Unit},
    series::Series,
};

const ROUNDS: usize = 5;
/// How long each contender runs in each round.
const TIME: Duration = Duration::from_secs(1);
const MANY: usize = 32;
const HAPROXY: &str = "HAProxy, TCP mode";
const NGINX: &str = "nginx, reverse";
const NO_PROXY: &str = "no proxy";

/// The rounds of one contender: a few figures each.
#[derive(Debug)]
struct Rounds<const N: usize> {
    name: &'static str,
    role: Role,
    figures: Result<Vec<[f64; N]>, String>,
}

impl<const N: usize> Rounds<N> {
    fn figure(&self, at: usize) -> Measured {
        let rounds = self.figures.as_ref().map_err(String::clone)?;
        Ok(rounds.iter().map(|round| round[at]).collect())
    }
}

/// Tunnels: how many are made, what they add, what goes through, and what an idle one holds.
pub(crate) fn tunnels() -> Result<Vec<Row>> {
    // Before the contenders are started, which inherit it.
    let idle = idle::raise_limit();
    let origin = origin::start()?;
    let contenders = Contender::all(Way::Tunnel, origin)?;
    let made = interleaved(&contenders, |it| load(it, MANY, new_tunnel))?;
    let alone = interleaved(&contenders, |it| load(it, 1, new_tunnel))?;
    let asked = interleaved(&contenders, |it| load(it, MANY, request))?;
    let waited = interleaved(&contenders, |it| load(it, 1, request))?;
    let bulk = interleaved(&contenders, download)?;
    let mut rows = rows(&made, 0, "proxy: new tunnels, 32 clients", Unit::PerSecond);
    rows.extend(self::rows(&alone, 1, "proxy: new tunnel, 1 client, p50", Unit::Milliseconds));
    rows.extend(self::rows(&alone, 2, "proxy: new tunnel, 1 client, p99", Unit::Milliseconds));
    let what = "proxy: requests of 1 KiB through tunnels, 32 clients";
    rows.extend(aimed(self::rows(&asked, 0, what, Unit::PerSecond), HAPROXY, 1.2));
    let what = "proxy: processor time of a request through a tunnel";
    rows.extend(processor(&asked, 3, what, Unit::Microseconds));
    rows.extend(added(&waited, "through a tunnel", Some(0.1)));
    let what = "proxy: download through a tunnel";
    rows.extend(aimed(self::rows(&bulk, 0, what, Unit::MebiBytesPerSecond), HAPROXY, 0.95));
    let what = "proxy: processor time of a GiB through a tunnel";
    let target = Target::RatioAtMost(1.0);
    rows.extend(with_target(processor(&bulk, 1, what, Unit::Milliseconds), HAPROXY, target));
    drop(contenders);
    rows.extend(idle::measure(idle)?);
    Ok(rows)
}

/// Requests for the proxy to read: absolute-form, and routes that add a header.
pub(crate) fn requests() -> Result<Vec<Row>> {
    let origin = origin::start()?;
    let mut rows = of_way(Way::Forward, "requests of 1 KiB by absolute-form", origin, Some(1.0))?;
    rows.extend(of_way(
        Way::Route,
        "requests of 1 KiB on a route that adds a header",
        origin,
        None,
    )?);
    match origin::Secure::start()? {
        Ok(secure) => rows.extend(of_way(
            Way::SecureRoute(secure.certificate()),
            "the same, to an origin with TLS",
            secure.address(),
            None,
        )?),
        Err(reason) => {
            rows.push(Row::new("proxy: to an origin with TLS", Unit::PerSecond, Err(reason)))
        }
    }
    Ok(rows)
}

fn of_way(
    way: Way,
    what: &str,
    origin: std::net::SocketAddr,
    beside_nginx: Option<f64>,
) -> Result<Vec<Row>> {
    let contenders = Contender::all(way, origin)?;
    let many = interleaved(&contenders, |it| load(it, MANY, request))?;
    let alone = interleaved(&contenders, |it| load(it, 1, request))?;
    let mut all = rows(&many, 0, &format!("proxy: {what}, 32 clients"), Unit::PerSecond);
    if let Some(factor) = beside_nginx {
        all = aimed(all, NGINX, factor);
    }
    let each = format!("proxy: processor time of {what}, each");
    all.extend(processor(&many, 3, &each, Unit::Microseconds));
    all.extend(added(&alone, &format!("by {what}"), None));
    Ok(all)
}

/// Every contender in turn, again and again. One that fails is out, with its reason; ours must not.
fn interleaved<const N: usize>(
    contenders: &[Contender],
    run: impl Fn(&Running) -> Result<[f64; N]>,
) -> Result<Vec<Rounds<N>>> {
    let begin = |it: &Contender| {
        let figures = it.running.as_ref().map(|_| Vec::new()).map_err(String::clone);
        Rounds { name: it.name, role: it.role, figures }
    };
    let mut all: Vec<Rounds<N>> = contenders.iter().map(begin).collect();
    for _ in 0..ROUNDS {
        for (contender, rounds) in contenders.iter().zip(&mut all) {
            let (Ok(running), Ok(figures)) = (&contender.running, &mut rounds.figures) else {
                continue;
            };
            match run(running).context(contender.name) {
                Ok(round) => figures.push(round),
                Err(error) if contender.name == contender::OURS => return Err(error),
                Err(error) => rounds.figures = Err(format!("failed: {error:#}")),
            }
        }
    }
    Ok(all)
}

/// Operations a second, p50 and p99 in milliseconds, processor time of the proxy in microseconds each.
fn load<W: FnMut() -> Result<()> + Send>(
    running: &Running,
    clients: usize,
    make: impl Fn(&Running) -> Result<W>,
) -> Result<[f64; 4]> {
    let before = running.cpu()?;
    let load: Load = closed_loop(clients, TIME, || make(running))?;
    let cpu = running.cpu()?.saturating_sub(before).as_secs_f64() * 1e6 / load.count();
    Ok([load.rate(), load.percentile(50), load.percentile(99), cpu])
}

fn new_tunnel(running: &Running) -> Result<impl FnMut() -> Result<()> + Send + use<>> {
    let (address, target) = (running.address, running.checked.clone());
    let hello = contender::hello();
    Ok(move || Wire::tunnel(address, target.as_deref())?.greet(&hello))
}

fn request(running: &Running) -> Result<impl FnMut() -> Result<()> + Send + use<>> {
    let mut wire = Wire::tunnel(running.address, running.opaque.as_deref())?;
    let request = running.request.clone();
    Ok(move || wire.exchange(&request))
}

/// MiB a second, and milliseconds of the proxy's processor time a GiB.
fn download(running: &Running) -> Result<[f64; 2]> {
    let mut wire = Wire::tunnel(running.address, running.opaque.as_deref())?.for_bulk();
    let (before, begun) = (running.cpu()?, Instant::now());
    wire.exchange(origin::BULK_REQUEST)?;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = running.cpu()?.saturating_sub(before).as_secs_f64();
    let mebibytes = (origin::BULK >> 20) as f64;
    Ok([mebibytes / seconds, cpu * 1000.0 * 1024.0 / mebibytes])
}

/// Ours, which is the first, beside each of the others.
fn rows<const N: usize>(all: &[Rounds<N>], at: usize, what: &str, unit: Unit) -> Vec<Row> {
    let Some((ours, others)) = all.split_first() else { return Vec::new() };
    let row = |other: &Rounds<N>| {
        Row::new(what, unit, ours.figure(at)).beside(other.role, other.name, other.figure(at))
    };
    others.iter().map(row).collect()
}

/// The processor time of no proxy is nothing to compare with.
fn processor<const N: usize>(all: &[Rounds<N>], at: usize, what: &str, unit: Unit) -> Vec<Row> {
    let mut rows = rows(all, at, what, unit);
    rows.retain(|row| row.other.as_ref().is_none_or(|other| other.name != NO_PROXY));
    rows
}

/// What ours adds to the median of no proxy, round by round.
fn added(all: &[Rounds<4>], way: &str, most: Option<f64>) -> Option<Row> {
    let direct = all.iter().find(|rounds| rounds.name == NO_PROXY)?.figures.as_ref().ok()?;
    let ours = all.first()?.figures.as_ref().ok()?;
    let differences: Series =
        ours.iter().zip(direct).map(|(ours, direct)| ours[1] - direct[1]).collect();
    let what = format!("proxy: added to the p50 of one client {way}");
    let row = Row::new(what, Unit::Milliseconds, Ok(differences));
    Some(match most {
        Some(most) => row.target(Target::AtMost(most)),
        None => row,
    })
}

fn aimed(rows: Vec<Row>, beside: &str, at_least: f64) -> Vec<Row> {
    with_target(rows, beside, Target::RatioAtLeast(at_least))
}

fn with_target(rows: Vec<Row>, beside: &str, target: Target) -> Vec<Row> {
    let is_beside = |row: &Row| row.other.as_ref().is_some_and(|other| other.name == beside);
    rows.into_iter().map(|row| if is_beside(&row) { row.target(target) } else { row }).collect()
}
