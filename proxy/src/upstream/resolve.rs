//! Names to addresses, once per connection, after the decision.
//!
//! Names are asked for as rooted (with the final dot), so no search list can turn an allowed name
//! into another one. The answer is a list of addresses to be judged and then dialled as it is;
//! nobody looks the name up again.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::net::{NetError, runtime::TokioRuntimeProvider};
use thiserror::Error;

use crate::host::Host;
use crate::refusal::Refusal;

/// Addresses of one name that are considered. An answer may hold hundreds; no honest client needs
/// more than a few.
const MAX_ADDRESSES: usize = 16;

/// How names are resolved.
#[derive(Clone, Debug)]
pub struct ResolverOptions {
    /// Name servers to ask in place of the system's.
    pub servers: Vec<SocketAddr>,
    /// Names with fixed addresses.
    pub hosts: HashMap<Arc<str>, Vec<IpAddr>>,
    /// Limit for one lookup with all its retries.
    pub timeout: Duration,
}

/// A handle to the resolver and its cache.
#[derive(Clone, Debug)]
pub struct Resolver {
    dns: TokioResolver,
    hosts: Arc<HashMap<Arc<str>, Vec<IpAddr>>>,
    timeout: Duration,
}

/// The resolver cannot be set up.
#[derive(Debug, Error)]
#[error("failed to set up name resolution: {0}")]
pub struct ResolverError(#[from] NetError);

impl Resolver {
    /// Sets the resolver up. Asks nobody yet.
    ///
    /// # Errors
    /// When the options are contradictory. A missing resolv.conf is no error: names then do not
    /// resolve, fixed ones apart.
    pub fn new(options: ResolverOptions) -> Result<Self, ResolverError> {
        let provider = TokioRuntimeProvider::default();
        let mut builder = match configuration(&options.servers) {
            Some(config) => TokioResolver::builder_with_config(config, provider),
            None => TokioResolver::builder(provider).unwrap_or_else(|error| {
                tracing::warn!(%error, "no usable resolv.conf: only names of the policy's hosts resolve");
                let none = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
                TokioResolver::builder_with_config(none, TokioRuntimeProvider::default())
            }),
        };
        let settings = builder.options_mut();
        settings.use_hosts_file = ResolveHosts::Never;
        settings.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        settings.timeout = options.timeout / 3;
        settings.attempts = 2;
        Ok(Self { dns: builder.build()?, hosts: Arc::new(options.hosts), timeout: options.timeout })
    }

    /// The addresses of a host: itself, its fixed ones, or what DNS says; IPv4 and IPv6 in turns, at
    /// most 16.
    ///
    /// # Errors
    /// [`Refusal::DnsError`] when there is none, [`Refusal::DnsTimeout`] when nobody answers.
    pub async fn lookup(&self, host: &Host) -> Result<Vec<IpAddr>, Refusal> {
        let name = match (host.ip(), host.name()) {
            (Some(ip), _) => return Ok(vec![ip]),
            (None, Some(name)) => name,
            (None, None) => return Err(Refusal::DnsError),
        };
        let found = match self.hosts.get(name) {
            Some(fixed) => fixed.clone(),
            None => self.ask(name).await?,
        };
        if found.is_empty() {
            return Err(Refusal::DnsError);
        }
        Ok(alternate(&found))
    }

    async fn ask(&self, name: &str) -> Result<Vec<IpAddr>, Refusal> {
        let answer = tokio::time::timeout(self.timeout, self.dns.lookup_ip(format!("{name}.")));
        match answer.await {
            Ok(Ok(addresses)) => Ok(addresses.iter().collect()),
            Ok(Err(NetError::Timeout)) | Err(_) => Err(Refusal::DnsTimeout),
            Ok(Err(error)) => {
                tracing::debug!(%error, "lookup failed");
                Err(Refusal::DnsError)
            }
        }
    }
}

fn configuration(servers: &[SocketAddr]) -> Option<ResolverConfig> {
    if servers.is_empty() {
        return None;
    }
    let server = |address: &SocketAddr| {
        let connections =
            [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = address.port();
                connection
            });
        NameServerConfig::new(address.ip(), true, connections.to_vec())
    };
    Some(ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect()))
}

/// One of each family in turn, IPv4 first, so that a family that does not work costs one attempt.
fn alternate(found: &[IpAddr]) -> Vec<IpAddr> {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = found.iter().partition(|ip| ip.is_ipv4());
    let longest = v4.len().max(v6.len());
    (0..longest)
        .flat_map(|at| [v4.get(at), v6.get(at)])
        .flatten()
        .copied()
        .take(MAX_ADDRESSES)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver(hosts: &[(&str, &[&str])]) -> Resolver {
        let parse = |(name, ips): &(&str, &[&str])| {
            ((*name).into(), ips.iter().map(|ip| ip.parse().unwrap()).collect())
        };
        Resolver::new(ResolverOptions {
            // Nobody listens on the discard port of this address.
            servers: vec!["127.0.0.1:9".parse().unwrap()],
            hosts: hosts.iter().map(parse).collect(),
            timeout: Duration::from_millis(300),
        })
        .unwrap()
    }

    #[tokio::test]
    async fn fixed_names_and_addresses_need_no_name_server() {
        let resolver = resolver(&[("a.test", &["::1", "127.0.0.1", "127.0.0.2"])]);
        for (host, expected) in
            [("a.test", &["127.0.0.1", "::1", "127.0.0.2"][..]), ("192.0.2.1", &["192.0.2.1"])]
        {
            let found = resolver.lookup(&Host::parse(host).unwrap()).await.unwrap();
            assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
        }
    }

    #[tokio::test]
    async fn a_name_nobody_knows_is_an_error() {
        let host = Host::parse("b.test").unwrap();
        let refusal = resolver(&[]).lookup(&host).await.unwrap_err();
        assert!(matches!(refusal, Refusal::DnsError | Refusal::DnsTimeout), "{refusal:?}");
    }

    #[test]
    fn only_the_first_addresses_are_considered() {
        let many: Vec<IpAddr> = (0..=255).map(|n| IpAddr::from([192, 0, 2, n])).collect();
        assert_eq!(alternate(&many).len(), MAX_ADDRESSES);
    }
}
