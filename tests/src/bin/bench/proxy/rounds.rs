//! Contenders in turns, and the rows of what came of it.

use anyhow::{Context, Result};

use super::{
    NO_PROXY,
    contender::{Contender, Running},
};
use crate::{
    bounded, pace, progress,
    row::{Measured, Role, Row, Target, Unit},
    series::Series,
};

const ROUNDS: usize = 5;

/// The rounds of one contender: a few figures each.
#[derive(Debug)]
pub(super) struct Rounds<const N: usize> {
    pub(super) name: &'static str,
    role: Role,
    figures: Result<Vec<[f64; N]>, String>,
}

/// Every contender in turn, again and again. One that fails is out, with its reason.
pub(super) fn interleaved<const N: usize>(
    what: &str,
    contenders: &mut [Contender],
    run: impl Fn(&Running) -> Result<[f64; N]>,
) -> Vec<Rounds<N>> {
    let rounds = pace::rounds(ROUNDS);
    let mut all: Vec<Rounds<N>> = contenders.iter().map(Rounds::begin).collect();
    for round in 1..=rounds {
        progress::say(format!("  {what}: round {round} of {rounds}"));
        for (contender, rounds) in contenders.iter_mut().zip(&mut all) {
            rounds.one(contender, &run);
        }
    }
    all
}

impl<const N: usize> Rounds<N> {
    fn begin(contender: &Contender) -> Self {
        let figures = contender.running.as_ref().map(|_| Vec::new()).map_err(String::clone);
        Self { name: contender.name, role: contender.role, figures }
    }

    fn one(&mut self, contender: &Contender, run: impl Fn(&Running) -> Result<[f64; N]>) {
        let (Ok(running), Ok(figures)) = (&contender.running, &mut self.figures) else {
            return;
        };
        match run(running).context(contender.name) {
            Ok(round) => figures.push(round),
            Err(error) => {
                let reason = bounded::reason(&error);
                progress::say(format!("    {reason}"));
                self.figures = Err(reason);
            }
        }
    }

    pub(super) fn figure(&self, at: usize) -> Measured {
        let rounds = self.figures.as_ref().map_err(String::clone)?;
        Ok(rounds.iter().map(|round| round[at]).collect())
    }
}

/// Ours, which is the first, beside each of the others.
pub(super) fn rows<const N: usize>(
    all: &[Rounds<N>],
    at: usize,
    what: &str,
    unit: Unit,
) -> Vec<Row> {
    let Some((ours, others)) = all.split_first() else { return Vec::new() };
    let row = |other: &Rounds<N>| {
        Row::new(what, unit, ours.figure(at)).beside(other.role, other.name, other.figure(at))
    };
    others.iter().map(row).collect()
}

/// The processor time of no proxy is nothing to compare with.
pub(super) fn processor<const N: usize>(
    all: &[Rounds<N>],
    at: usize,
    what: &str,
    unit: Unit,
) -> Vec<Row> {
    let mut rows = rows(all, at, what, unit);
    rows.retain(|row| row.other.as_ref().is_none_or(|other| other.name != NO_PROXY));
    rows
}

/// What ours adds to the median and to the 99th percentile of no proxy, round by round; the target is
/// the median's, in milliseconds.
pub(super) fn added(all: &[Rounds<4>], way: &str, most: f64) -> Vec<Row> {
    let direct = all.iter().find(|rounds| rounds.name == NO_PROXY);
    let direct = direct.and_then(|rounds| rounds.figures.as_ref().ok());
    let ours = all.first().and_then(|rounds| rounds.figures.as_ref().ok());
    let (Some(direct), Some(ours)) = (direct, ours) else { return Vec::new() };
    let row = |at: usize, percentile: &str| {
        let pairs = ours.iter().zip(direct);
        let differences: Series = pairs.map(|(ours, direct)| ours[at] - direct[at]).collect();
        let what = format!("proxy: added to the {percentile} of one client {way}");
        Row::new(what, Unit::Milliseconds, Ok(differences))
    };
    vec![row(1, "p50").target(Target::AtMost(most)), row(2, "p99")]
}

/// Sets the target of the row beside this contender.
pub(super) fn aimed(rows: Vec<Row>, beside: &str, target: Target) -> Vec<Row> {
    let is_beside = |row: &Row| row.other.as_ref().is_some_and(|other| other.name == beside);
    rows.into_iter().map(|row| if is_beside(&row) { row.target(target) } else { row }).collect()
}
