//! Samples and what is said about them. Pure.

use std::time::Duration;

/// One quantity, measured once in each round, in the order of the rounds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series(Vec<f64>);

/// How two series compare, round by round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio {
    /// The middle one.
    pub(crate) median: f64,
    /// The lowest of all rounds.
    pub(crate) low: f64,
    /// The highest of all rounds.
    pub(crate) high: f64,
}

impl Series {
    /// A quantity that has no rounds.
    pub(crate) fn single(value: f64) -> Self {
        Self(vec![value])
    }

    pub(crate) fn median(&self) -> f64 {
        sorted(self.0.clone()).median
    }

    pub(crate) fn rounds(&self) -> &[f64] {
        &self.0
    }

    /// This over `other` in each round: what disturbs the machine in one round disturbs both.
    pub(crate) fn ratio(&self, other: &Self) -> Ratio {
        sorted(self.0.iter().zip(&other.0).map(|(ours, theirs)| ours / theirs).collect())
    }
}

impl FromIterator<f64> for Series {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

fn sorted(mut values: Vec<f64>) -> Ratio {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    Ratio { median: at(values.len() / 2), low: at(0), high: at(values.len().saturating_sub(1)) }
}

/// The time that `percent` of the samples do not exceed, in milliseconds (nearest rank).
pub(crate) fn percentile(samples: &[Duration], percent: usize) -> f64 {
    let mut samples = samples.to_vec();
    samples.sort_unstable();
    let rank = (samples.len() * percent).div_ceil(100).saturating_sub(1);
    samples.get(rank).map_or(f64::NAN, |sample| milliseconds(*sample))
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let (ours, theirs) = (Series(vec![1.0, 30.0, 2.0]), Series(vec![2.0, 10.0, 2.0]));
        assert_eq!(ours.median(), 2.0);
        assert_eq!(ours.ratio(&theirs), Ratio { median: 1.0, low: 0.5, high: 3.0 });
    }

    #[test]
    fn percentiles_are_samples() {
        let samples: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&samples, 50), 100.0);
        assert_eq!(percentile(&samples, 99), 198.0);
        assert_eq!(percentile(&samples[..1], 99), 200.0);
        assert!(percentile(&[], 50).is_nan());
    }
}
