//! Ours beside other ways to do the same, in turn: A B C A B C.

use std::time::Instant;

use anyhow::Result;

use crate::{
    bounded, pace, progress,
    row::{Measured, Role, Row, Target, Unit},
    series::milliseconds,
};

/// One round of a contender, by its number: prepares, times what counts, and clears away. Gives
/// milliseconds.
pub(crate) type Round<'a> = Box<dyn FnMut(usize) -> Result<f64> + 'a>;

/// Another way to do the same.
pub(crate) struct Contender<'a> {
    role: Role,
    name: &'static str,
    target: Option<Target>,
    /// Why it does not run, where it does not.
    round: Result<Round<'a>, String>,
}

impl<'a> Contender<'a> {
    pub(crate) fn new(role: Role, name: &'static str, round: Round<'a>) -> Self {
        Self { role, name, target: None, round: Ok(round) }
    }

    /// One that may be absent.
    pub(crate) fn perhaps(name: &'static str, round: Result<Round<'a>, String>) -> Self {
        Self { role: Role::Peer, name, target: None, round }
    }

    /// Ours takes at most so many times as long.
    #[must_use]
    pub(crate) fn at_most(mut self, ratio: f64) -> Self {
        self.target = Some(Target::RatioAtMost(ratio));
        self
    }

    /// Ours is at least so many times as fast; to three places, as it is shown.
    #[must_use]
    pub(crate) fn faster(self, times: f64) -> Self {
        self.at_most((1000.0 / times).round() / 1000.0)
    }

    /// Ours takes at most so many milliseconds, whatever this takes.
    #[must_use]
    pub(crate) fn within(mut self, milliseconds: f64) -> Self {
        self.target = Some(Target::AtMost(milliseconds));
        self
    }
}

/// Runs all of them in turn and gives a row for each contender.
pub(crate) fn contest<'a>(
    what: &str,
    rounds: usize,
    ours: impl FnMut(usize) -> Result<f64> + 'a,
    mut others: Vec<Contender<'a>>,
) -> Vec<Row> {
    let rounds = pace::rounds(rounds);
    let names = others.iter().map(|other| other.name).collect::<Vec<_>>().join(", ");
    progress::say(format!("  {what}: {rounds} rounds of ours, {names}"));
    let mut ours = Contender::new(Role::Peer, "ours", Box::new(ours));
    let mut own = Vec::new();
    let mut theirs: Vec<Vec<f64>> = others.iter().map(|_| Vec::new()).collect();
    for number in 0..rounds {
        ours.run(number, &mut own);
        for (other, times) in others.iter_mut().zip(&mut theirs) {
            other.run(number, times);
        }
    }
    let own = Row::new(what, Unit::Milliseconds, ours.figure(own));
    others.into_iter().zip(theirs).map(|(other, times)| other.row(&own, times)).collect()
}

impl Contender<'_> {
    /// One that fails is out, with its reason.
    fn run(&mut self, number: usize, times: &mut Vec<f64>) {
        let Ok(round) = &mut self.round else { return };
        match round(number) {
            Ok(time) => times.push(time),
            Err(error) => {
                let reason = bounded::reason(&error);
                progress::say(format!("    {}: {reason}", self.name));
                self.round = Err(reason);
            }
        }
    }

    fn figure(&self, times: Vec<f64>) -> Measured {
        self.round.as_ref().map(|_| times.into_iter().collect()).map_err(String::clone)
    }

    fn row(self, ours: &Row, times: Vec<f64>) -> Row {
        let row = ours.clone().beside(self.role, self.name, self.figure(times));
        match self.target {
            Some(target) => row.target(target),
            None => row,
        }
    }
}

/// Milliseconds that some work takes.
pub(crate) fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    work()?;
    Ok(milliseconds(begun.elapsed()))
}
