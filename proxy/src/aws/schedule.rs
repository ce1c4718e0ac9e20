//! When credentials are refreshed, retried and given up. Pure: the clock and the dice are arguments.
//!
//! Invariant: nothing here returns a moment at or after the expiry of the credentials it is for.

use std::time::{Duration, SystemTime};

/// Credentials are not used in their last half minute: a request signed then may reach AWS too late.
pub const MARGIN: Duration = Duration::from_secs(30);
/// The least time before expiry at which a refresh starts, for sessions of an hour and more. It
/// leaves room for many retries during an outage of STS.
const LEAD: Duration = Duration::from_secs(600);
/// Refreshes of many pods that started together are spread over this time.
const SPREAD: Duration = Duration::from_secs(60);
/// The longest pause between attempts while STS does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The pause after a refusal that only an operator can mend.
const FATAL_PAUSE: Duration = Duration::from_secs(300);
/// Upstreams that reject a signature as expired trigger a refresh at most this often.
pub const EARLY_INTERVAL: Duration = Duration::from_secs(30);

/// How soon an attempt that failed is worth repeating.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Trouble on the way or at STS; it passes by itself.
    Soon,
    /// A refusal that may be a change still spreading through IAM.
    Slowly,
    /// A mistake in the configuration of the role or of this proxy.
    Fatal,
}

/// A number of at least 0 and below 1, drawn by the caller.
#[derive(Clone, Copy, Debug)]
pub struct Dice(f64);

impl Dice {
    /// Draws from the thread's generator.
    #[must_use]
    pub fn roll() -> Self {
        Self(fastrand::f64())
    }

    /// A fixed outcome, brought into range.
    #[must_use]
    pub const fn fixed(value: f64) -> Self {
        Self(value.clamp(0.0, 0.999_999))
    }
}

/// The moment to refresh credentials that were obtained at `obtained` and end at `expires`.
///
/// That is ten minutes or a sixth of the life before expiry, whichever is longer, yet never before
/// two thirds of the life are over; a minute or less earlier by chance.
#[must_use]
pub fn refresh_at(obtained: SystemTime, expires: SystemTime, dice: Dice) -> SystemTime {
    let life = expires.duration_since(obtained).unwrap_or_default();
    let lead = LEAD.max(life / 6).min(life / 3);
    let spread = SPREAD.min(life / 15).mul_f64(dice.0);
    expires.checked_sub(lead + spread).unwrap_or(obtained).max(obtained)
}

/// Whether credentials that end at `expires` may still sign at `now`. Without an end they always may.
#[must_use]
pub fn usable(expires: Option<SystemTime>, now: SystemTime) -> bool {
    expires.is_none_or(|end| end.duration_since(now).is_ok_and(|left| left > MARGIN))
}

/// How long to wait before attempt number `failures + 1`, `failures` being at least 1. `unit` is the
/// first pause, one second outside tests.
#[must_use]
pub fn pause(retry: Retry, failures: u32, unit: Duration, dice: Dice) -> Duration {
    let longest = unit * u32::try_from(LONGEST_PAUSE.as_secs()).unwrap_or(u32::MAX);
    match retry {
        Retry::Soon => {
            let doubled = unit * 2_u32.saturating_pow(failures.saturating_sub(1).min(6));
            // Full jitter, with a floor that keeps a lucky instance from hammering STS.
            doubled.min(longest).mul_f64(dice.0).max(unit / 4)
        }
        Retry::Slowly => longest.mul_f64(0.5 + dice.0 / 2.0),
        Retry::Fatal => unit * u32::try_from(FATAL_PAUSE.as_secs()).unwrap_or(u32::MAX),
    }
}

/// Whether an upstream's complaint about expired credentials may start a refresh now, the last
/// refresh having been tried at `last_attempt` and `interval` being the least time between two.
#[must_use]
pub fn early_refresh_allowed(
    last_attempt: SystemTime,
    now: SystemTime,
    interval: Duration,
) -> bool {
    now.duration_since(last_attempt).is_ok_and(|since| since >= interval)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const ZERO: Dice = Dice::fixed(0.0);
    const ONE: Dice = Dice::fixed(1.0);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn refresh_comes_ten_minutes_or_a_sixth_of_the_life_before_expiry() {
        // (life, refresh after), in seconds.
        let rows = [(900, 600), (1800, 1200), (3600, 3000), (21_600, 18_000), (43_200, 36_000)];
        for (life, after) in rows {
            assert_eq!(refresh_at(at(0), at(life), ZERO), at(after), "life {life}");
        }
    }

    #[test]
    fn chance_moves_a_refresh_by_a_minute_at_most_and_never_before_the_start() {
        assert!(refresh_at(at(0), at(3600), ONE) >= at(2940));
        assert!(refresh_at(at(0), at(900), ONE) >= at(540));
        assert_eq!(refresh_at(at(10), at(10), ONE), at(10));
        assert_eq!(refresh_at(at(10), at(0), ONE), at(10), "already over: at once");
    }

    #[test]
    fn fifty_instances_do_not_refresh_in_the_same_second() {
        let seconds: HashSet<u64> = (0..50)
            .map(|n| refresh_at(at(0), at(3600), Dice::fixed(f64::from(n) / 50.0)))
            .map(|t| t.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
            .collect();
        assert!(seconds.len() > 25, "{} distinct seconds", seconds.len());
    }

    #[test]
    fn credentials_serve_until_half_a_minute_before_expiry() {
        assert!(usable(Some(at(31)), at(0)));
        assert!(!usable(Some(at(30)), at(0)));
        assert!(!usable(Some(at(0)), at(5)));
        assert!(usable(None, at(0)));
    }

    #[test]
    fn pauses_double_up_to_a_minute_with_full_jitter() {
        let second = Duration::from_secs(1);
        for (failures, longest) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (9, 60)] {
            let pause = pause(Retry::Soon, failures, second, ONE);
            let short_of = Duration::from_secs(longest).checked_sub(pause).unwrap();
            assert!(short_of < Duration::from_millis(1), "{failures}: {pause:?}");
        }
        assert_eq!(pause(Retry::Soon, 5, second, ZERO), Duration::from_millis(250));
        assert!(pause(Retry::Slowly, 1, second, ZERO) >= Duration::from_secs(30));
        assert_eq!(pause(Retry::Fatal, 1, second, ZERO), Duration::from_secs(300));
        assert!(pause(Retry::Soon, u32::MAX, second, ONE) <= Duration::from_secs(60));
    }

    #[test]
    fn complaints_of_upstreams_refresh_at_most_every_half_minute() {
        assert!(!early_refresh_allowed(at(0), at(29), EARLY_INTERVAL));
        assert!(early_refresh_allowed(at(0), at(30), EARLY_INTERVAL));
        assert!(
            !early_refresh_allowed(at(100), at(0), EARLY_INTERVAL),
            "a clock that went back is no reason"
        );
    }
}
