//! One line of the report: a figure of ours, what it is held against, and the target. Pure.

use crate::{
    bounded::FAILED,
    series::{Ratio, Series},
};

/// A figure, or why there is none.
pub(crate) type Measured = Result<Series, String>;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Nanoseconds,
    Microseconds,
    Milliseconds,
    PerSecond,
    Bytes,
    KibiBytes,
    MebiBytes,
    MebiBytesPerSecond,
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Microseconds => "µs",
            Self::Milliseconds => "ms",
            Self::PerSecond => "/s",
            Self::Bytes => "B",
            Self::KibiBytes => "KiB",
            Self::MebiBytes => "MiB",
            Self::MebiBytesPerSecond => "MiB/s",
        }
    }

    fn show(self, value: f64) -> String {
        let decimals = match self {
            Self::Nanoseconds
            | Self::Microseconds
            | Self::PerSecond
            | Self::Bytes
            | Self::MebiBytesPerSecond => 0,
            Self::KibiBytes => 1,
            Self::Milliseconds | Self::MebiBytes => 2,
        };
        format!("{value:.decimals$} {}", self.name())
    }
}

/// What stands beside a figure of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Another way to do the same.
    Peer,
    /// The least that the kernel lets it cost.
    Floor,
}

/// A figure that ours is held against.
#[derive(Debug, Clone)]
pub(crate) struct Other {
    pub(crate) role: Role,
    pub(crate) name: &'static str,
    pub(crate) figure: Measured,
}

/// What the figure should come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// Ours, in its unit.
    AtMost(f64),
    /// Ours over the other.
    RatioAtMost(f64),
    /// Ours over the other.
    RatioAtLeast(f64),
    /// Ours differs from the other by such a part of it, at most.
    RatioWithin(f64),
}

/// What came of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    Missed,
    NotMeasured,
    NoTarget,
}

/// One line of the report.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: Unit,
    pub(crate) ours: Measured,
    pub(crate) other: Option<Other>,
    pub(crate) target: Option<Target>,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, unit: Unit, ours: Measured) -> Self {
        Self { what: what.into(), unit, ours, other: None, target: None }
    }

    #[must_use]
    pub(crate) fn beside(mut self, role: Role, name: &'static str, figure: Measured) -> Self {
        self.other = Some(Other { role, name, figure });
        self
    }

    #[must_use]
    pub(crate) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Ours over the other, if both were measured and the other never came to nothing: a processor's
    /// time is counted in ticks, and less than one is none.
    pub(crate) fn ratio(&self) -> Option<Ratio> {
        let other = self.other.as_ref()?.figure.as_ref().ok()?;
        let ratio = self.ours.as_ref().ok()?.ratio(other);
        [ratio.low, ratio.median, ratio.high].iter().all(|it| it.is_finite()).then_some(ratio)
    }

    /// Whether ours should have worked and did not.
    pub(crate) fn failed(&self) -> bool {
        self.ours.as_ref().is_err_and(|reason| reason.starts_with(FAILED))
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let Some(target) = self.target else { return Verdict::NoTarget };
        let ratio = self.ratio().map(|ratio| ratio.median);
        let held = match target {
            Target::AtMost(most) => self.ours.as_ref().ok().map(|ours| ours.median() <= most),
            Target::RatioAtMost(most) => ratio.map(|ratio| ratio <= most),
            Target::RatioAtLeast(least) => ratio.map(|ratio| ratio >= least),
            Target::RatioWithin(part) => ratio.map(|ratio| (ratio - 1.0).abs() <= part),
        };
        match held {
            Some(true) => Verdict::Met,
            Some(false) => Verdict::Missed,
            None => Verdict::NotMeasured,
        }
    }

    /// The cells of the table: what, ours, peer, floor, ratio, target, met.
    pub(crate) fn cells(&self) -> [String; 7] {
        let show = |figure: &Measured| match figure {
            Ok(series) => self.unit.show(series.median()),
            Err(reason) => reason.clone(),
        };
        let beside = |role| match &self.other {
            Some(other) if other.role == role => format!("{} {}", show(&other.figure), other.name),
            _ => String::new(),
        };
        let ratio = self
            .ratio()
            .map(|ratio| format!("{:.2} ({:.2} to {:.2})", ratio.median, ratio.low, ratio.high));
        let target = self.target.map(|target| match target {
            Target::AtMost(most) => format!("<= {} {}", most, self.unit.name()),
            Target::RatioAtMost(most) => format!("<= {most} x"),
            Target::RatioAtLeast(least) => format!(">= {least} x"),
            Target::RatioWithin(part) => format!("within {} %", part * 100.0),
        });
        let met = match self.verdict() {
            Verdict::Met => "met",
            Verdict::Missed => "NOT met",
            Verdict::NotMeasured => "not measured",
            Verdict::NoTarget => "",
        };
        [
            self.what.clone(),
            show(&self.ours),
            beside(Role::Peer),
            beside(Role::Floor),
            ratio.unwrap_or_default(),
            target.unwrap_or_default(),
            met.into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: f64, other: Measured, target: Target) -> Row {
        let row = Row::new("exec", Unit::Milliseconds, Ok(Series::single(ours)));
        row.beside(Role::Floor, "bare", other).target(target)
    }

    #[test]
    fn a_target_is_met_missed_or_not_measured() {
        let two = || Ok(Series::single(2.0));
        let nothing = || Ok(Series::single(0.0));
        let absent = || Err("not there".to_owned());
        for (row, verdict) in [
            (row(2.5, two(), Target::RatioAtMost(1.25)), Verdict::Met),
            (row(2.6, two(), Target::RatioAtMost(1.25)), Verdict::Missed),
            (row(1.7, two(), Target::RatioAtLeast(0.85)), Verdict::Met),
            (row(1.6, two(), Target::RatioAtLeast(0.85)), Verdict::Missed),
            (row(1.9, two(), Target::RatioWithin(0.1)), Verdict::Met),
            (row(2.3, two(), Target::RatioWithin(0.1)), Verdict::Missed),
            (row(1.6, absent(), Target::RatioAtLeast(0.85)), Verdict::NotMeasured),
            (row(1.6, nothing(), Target::RatioAtMost(1.25)), Verdict::NotMeasured),
            (row(1.6, absent(), Target::AtMost(1.6)), Verdict::Met),
            (row(f64::NAN, absent(), Target::AtMost(1.6)), Verdict::Missed),
        ] {
            assert_eq!(row.verdict(), verdict, "{row:?}");
        }
    }

    #[test]
    fn the_cells_say_everything() {
        let cells = row(2.5, Ok(Series::single(2.0)), Target::RatioAtMost(1.25)).cells();
        let expected =
            ["exec", "2.50 ms", "", "2.00 ms bare", "1.25 (1.25 to 1.25)", "<= 1.25 x", "met"];
        assert_eq!(cells, expected);
    }
}
