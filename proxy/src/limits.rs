//! What the proxy bounds, and how far: one immutable value.
//!
//! Each limit comes from a flag, its variable, the `limits` section of the policy file, or a default,
//! in this order. Reaching one has a code of its own and is counted under its name in
//! `ws_proxy_limit_hits_total`.

mod parse;
pub mod rate;

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

pub use crate::limits::parse::{HeadSize, TimeLimit};

/// The limits that are set, on the command line or in the policy file: the flags and the keys have the
/// same names.
#[derive(Args, Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct LimitArgs {
    /// How long requests may go on after SIGTERM [default: 25s]
    #[arg(long, env = "WORKSPACE_PROXY_DRAIN_TIMEOUT", value_name = "TIME")]
    pub drain_timeout: Option<TimeLimit>,

    /// Limit for connecting to a destination [default: 10s]
    #[arg(long, env = "WORKSPACE_PROXY_CONNECT_TIMEOUT", value_name = "TIME")]
    pub connect_timeout: Option<TimeLimit>,

    /// Limit for resolving a name [default: 5s]
    #[arg(long, env = "WORKSPACE_PROXY_DNS_TIMEOUT", value_name = "TIME")]
    pub dns_timeout: Option<TimeLimit>,

    /// How long a tunnel or a response may be silent [default: 5m]
    #[arg(long, env = "WORKSPACE_PROXY_IDLE_TIMEOUT", value_name = "TIME")]
    pub idle_timeout: Option<TimeLimit>,

    /// Limit for a request head from its first byte on [default: 30s]
    #[arg(long, env = "WORKSPACE_PROXY_HEADER_TIMEOUT", value_name = "TIME")]
    pub header_timeout: Option<TimeLimit>,

    /// Limit for the TLS client hello in a tunnel [default: 10s]
    #[arg(long, env = "WORKSPACE_PROXY_HELLO_TIMEOUT", value_name = "TIME")]
    pub hello_timeout: Option<TimeLimit>,

    /// Connections of workspaces at a time; further ones are refused [default: 2048]
    #[arg(long, env = "WORKSPACE_PROXY_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<NonZeroUsize>,

    /// Open tunnels at a time; further ones are refused; 0 refuses all [default: 1024]
    #[arg(long, env = "WORKSPACE_PROXY_MAX_TUNNELS", value_name = "N")]
    pub max_tunnels: Option<usize>,

    /// Bytes of a request line with its headers [default: 65536]
    #[arg(long, env = "WORKSPACE_PROXY_MAX_HEAD", value_name = "BYTES")]
    pub max_head: Option<HeadSize>,

    /// Bytes of a request body [default: no limit]
    #[arg(long, env = "WORKSPACE_PROXY_MAX_BODY", value_name = "BYTES")]
    pub max_body: Option<u64>,

    /// Requests and tunnels a second to each host; a second's worth may come at once [default: no
    /// limit]
    #[arg(long, env = "WORKSPACE_PROXY_HOST_RATE", value_name = "N")]
    pub host_rate: Option<NonZeroU32>,
}

impl LimitArgs {
    /// These, and those of the other where nothing is said here.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            drain_timeout: self.drain_timeout.or(other.drain_timeout),
            connect_timeout: self.connect_timeout.or(other.connect_timeout),
            dns_timeout: self.dns_timeout.or(other.dns_timeout),
            idle_timeout: self.idle_timeout.or(other.idle_timeout),
            header_timeout: self.header_timeout.or(other.header_timeout),
            hello_timeout: self.hello_timeout.or(other.hello_timeout),
            max_connections: self.max_connections.or(other.max_connections),
            max_tunnels: self.max_tunnels.or(other.max_tunnels),
            max_head: self.max_head.or(other.max_head),
            max_body: self.max_body.or(other.max_body),
            host_rate: self.host_rate.or(other.host_rate),
        }
    }
}

/// All limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long requests may go on after SIGTERM.
    pub drain_timeout: Duration,
    /// For all attempts to connect together, and again for the TLS handshake.
    pub connect_timeout: Duration,
    /// For a lookup with its retries.
    pub dns_timeout: Duration,
    /// How long a tunnel or a response may be silent.
    pub idle_timeout: Duration,
    /// How long a request head may take from its first byte on.
    pub header_timeout: Duration,
    /// How long the first words in a tunnel may take.
    pub hello_timeout: Duration,
    /// Connections of workspaces at a time.
    pub max_connections: usize,
    /// Open tunnels at a time.
    pub max_tunnels: usize,
    /// Bytes of a request head.
    pub max_head: usize,
    /// Bytes of a request body.
    pub max_body: Option<u64>,
    /// Requests a second to each host.
    pub host_rate: Option<NonZeroU32>,
}

impl Limits {
    /// The limits that apply where these are set.
    #[must_use]
    pub fn of(set: LimitArgs) -> Self {
        let time = |set: Option<TimeLimit>, seconds| {
            set.map_or_else(|| Duration::from_secs(seconds), TimeLimit::duration)
        };
        Self {
            drain_timeout: time(set.drain_timeout, 25),
            connect_timeout: time(set.connect_timeout, 10),
            dns_timeout: time(set.dns_timeout, 5),
            idle_timeout: time(set.idle_timeout, 300),
            header_timeout: time(set.header_timeout, 30),
            hello_timeout: time(set.hello_timeout, 10),
            max_connections: set.max_connections.map_or(2048, NonZeroUsize::get),
            max_tunnels: set.max_tunnels.unwrap_or(1024),
            max_head: set.max_head.unwrap_or_default().bytes(),
            max_body: set.max_body,
            host_rate: set.host_rate,
        }
    }

    /// The most bytes that a request body may have where a rule has a limit of its own.
    #[must_use]
    pub fn body(&self, of_rule: Option<u64>) -> Option<u64> {
        [self.max_body, of_rule].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_wins_over_the_file_and_both_over_the_default() {
        let file: LimitArgs =
            serde_saphyr::from_str("{idle_timeout: 7s, max_tunnels: 3, host_rate: 5}").unwrap();
        let flags = LimitArgs { max_tunnels: Some(9), ..LimitArgs::default() };
        let limits = Limits::of(flags.or(file));
        assert_eq!((limits.max_tunnels, limits.idle_timeout.as_secs()), (9, 7));
        assert_eq!((limits.max_head, limits.host_rate), (65_536, NonZeroU32::new(5)));
    }

    #[test]
    fn what_would_refuse_everything_is_no_limit() {
        for text in [
            "{max_connections: 0}",
            "{max_connections: -1}",
            "{host_rate: 0}",
            "{idle_timeout: 0s}",
            "{idle_timeout: soon}",
            "{max_head: 100}",
            "{max_head: 10000000}",
            "{max_tunnel: 1}",
        ] {
            assert!(serde_saphyr::from_str::<LimitArgs>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn of_two_limits_of_a_body_the_smaller_one_counts() {
        let limits = |max_body| Limits::of(LimitArgs { max_body, ..LimitArgs::default() });
        assert_eq!(limits(None).body(None), None);
        assert_eq!(limits(Some(5)).body(Some(4)), Some(4));
        assert_eq!(limits(Some(5)).body(None), Some(5));
    }
}
