//! Requests by a proxy that knows little, and by one that knows much: rules of its management API, and
//! patterns of its policy.

use std::net::SocketAddr;

use anyhow::{Context, Result, anyhow};

use super::{
    contender::{self, Contender, Known, Way},
    load, request,
    rounds::{Rounds, interleaved},
};
use crate::{
    row::{Role, Row, Target, Unit},
    series::Series,
};

/// One of a kind: how many, and what the table calls them.
type Size = (usize, &'static str);

const FEW: usize = 10;
/// The most that a document of rules may have.
const RULES: [Size; 2] = [(FEW, "with 10 rules"), (256, "with 256 rules")];
const PATTERNS: [Size; 3] =
    [(FEW, "with 10 patterns"), (1_000, "with 1000 patterns"), (10_000, "with 10000 patterns")];

/// What a request costs with many rules or patterns beside one with few, and what each of them takes.
pub(super) fn measure(origin: SocketAddr) -> Result<Vec<Row>> {
    let rules = |rules: usize| Known { rules, ..Known::default() };
    let patterns = |patterns: usize| Known { patterns, ..Known::default() };
    let of_rules = grown("rules", &RULES, |size| contender::ours(&Way::Route, origin, rules(size)));
    let of_patterns =
        grown("patterns", &PATTERNS, |size| contender::ours(&Way::Forward, origin, patterns(size)));
    Ok([of_rules?, of_patterns?].concat())
}

fn grown(
    kind: &str,
    sizes: &[Size],
    start: impl Fn(usize) -> Result<contender::Running>,
) -> Result<Vec<Row>> {
    let start = |(size, name): &Size| -> Result<Contender> {
        Ok(Contender { name, role: Role::Floor, running: Ok(start(*size)?) })
    };
    let mut all = sizes.iter().map(start).collect::<Result<Vec<_>>>()?;
    let memory = all.iter().map(resident_kib).collect::<Result<Vec<_>>>()?;
    let asked = interleaved(&format!("requests with {kind}"), &mut all, |it| load(it, 1, request));
    let (few_asked, more_asked) = asked.split_first().context("nothing was measured")?;
    let (few_memory, more_memory) = memory.split_first().context("nothing was measured")?;
    let measured = sizes.iter().skip(1).zip(more_asked).zip(more_memory);
    let rows = measured.flat_map(|(((size, _), asked), memory)| {
        let each = (memory - few_memory) / (size - FEW) as f64;
        let what = format!("proxy: memory (RSS) of one of {size} {kind}");
        let each = Row::new(what, Unit::KibiBytes, Ok(Series::single(each)));
        [beside_few(&format!("{size} {kind}"), asked, few_asked), each]
    });
    Ok(rows.collect())
}

fn beside_few(size: &str, asked: &Rounds<4>, few: &Rounds<4>) -> Row {
    let what = format!("proxy: request of 1 KiB, 1 client, p50, {size}");
    let row = Row::new(what, Unit::Milliseconds, asked.figure(1));
    row.beside(Role::Floor, few.name, few.figure(1)).target(Target::RatioAtMost(1.1))
}

fn resident_kib(contender: &Contender) -> Result<f64> {
    contender.running.as_ref().map_err(|reason| anyhow!("{reason}"))?.resident_kib()
}
