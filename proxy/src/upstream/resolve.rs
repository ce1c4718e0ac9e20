//! Names to addresses, once per connection, after the decision.
//!
//! Names are asked for as rooted (with the final dot), so no search list can turn an allowed name
//! into another one. The answer is a list of addresses to be judged and then dialled as it is;
//! nobody looks the name up again.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::{NetError, runtime::TokioRuntimeProvider};
use hickory_resolver::proto::rr::{Name, RecordType};
use thiserror::Error;
use tokio::time::timeout;

use crate::host::Host;
use crate::refusal::Refusal;

/// Addresses of one name that are considered. An answer may hold hundreds; no honest client needs
/// more than a few.
const MAX_ADDRESSES: usize = 16;

/// Answers that are kept, each as long as its records allow.
const CACHE_SIZE: u64 = 1024;

/// Longest time that an address is kept, whatever its record says: a day-long TTL must not outlive a
/// move.
const MAX_TTL: Duration = Duration::from_secs(300);

/// Longest time that a name is taken to be missing. Workspaces wait for names to appear.
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(30);

/// How long the second family of addresses may come after the first (RFC 8305 section 3).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// Names with fixed addresses.
pub type FixedNames = HashMap<Arc<str>, Vec<IpAddr>>;

/// How names are resolved.
#[derive(Clone, Debug)]
pub struct ResolverOptions {
    /// Name servers to ask in place of the system's.
    pub servers: Vec<SocketAddr>,
    /// Names with fixed addresses.
    pub hosts: FixedNames,
    /// Limit for one lookup with all its retries.
    pub timeout: Duration,
}

/// A handle to the resolver and its cache.
#[derive(Clone, Debug)]
pub struct Resolver {
    dns: TokioResolver,
    hosts: Arc<ArcSwap<FixedNames>>,
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
        settings.timeout = options.timeout / 3;
        settings.attempts = 2;
        settings.cache_size = CACHE_SIZE;
        settings.positive_max_ttl = Some(MAX_TTL);
        settings.negative_max_ttl = Some(MAX_NEGATIVE_TTL);
        let hosts = Arc::new(ArcSwap::from_pointee(options.hosts));
        Ok(Self { dns: builder.build()?, hosts, timeout: options.timeout })
    }

    /// Puts other fixed names in the place of those there are.
    pub fn replace_hosts(&self, hosts: FixedNames) {
        self.hosts.store(Arc::new(hosts));
    }

    /// Whether the host is a name with fixed addresses.
    #[must_use]
    pub fn has_fixed(&self, host: &Host) -> bool {
        host.name().is_some_and(|name| self.hosts.load().contains_key(name))
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
        let fixed = self.hosts.load().get(name).cloned();
        let found = match fixed {
            Some(fixed) => fixed,
            None => self.ask(name).await?,
        };
        if found.is_empty() {
            return Err(Refusal::DnsError);
        }
        Ok(alternate(&found))
    }

    /// Asks for both families at once. When one has answered, the other gets a moment more: a name
    /// server that ignores one of the questions must not cost every connection its whole timeout.
    async fn ask(&self, name: &str) -> Result<Vec<IpAddr>, Refusal> {
        // Byte for byte: the reading of text would refuse names with an underscore inside.
        let rooted =
            Name::from_ascii(format!("{name}.")).map_err(|_malformed| Refusal::DnsError)?;
        let mut v4 = std::pin::pin!(self.family(&rooted, RecordType::A));
        let mut v6 = std::pin::pin!(self.family(&rooted, RecordType::AAAA));
        let (first, second) = tokio::select! {
            first = v4.as_mut() => {
                let patience = self.patience(&first);
                (first, timeout(patience, v6).await)
            }
            first = v6.as_mut() => {
                let patience = self.patience(&first);
                (first, timeout(patience, v4).await)
            }
        };
        match (first, second.unwrap_or(Err(Refusal::DnsTimeout))) {
            (Ok(first), Ok(second)) => Ok([first, second].concat()),
            (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found),
            (Err(Refusal::DnsTimeout), Err(_)) | (Err(_), Err(Refusal::DnsTimeout)) => {
                Err(Refusal::DnsTimeout)
            }
            (Err(refusal), Err(_)) => Err(refusal),
        }
    }

    /// How long to wait for the second family.
    fn patience(&self, first: &Result<Vec<IpAddr>, Refusal>) -> Duration {
        if first.is_ok() { RESOLUTION_DELAY } else { self.timeout }
    }

    async fn family(&self, rooted: &Name, kind: RecordType) -> Result<Vec<IpAddr>, Refusal> {
        match timeout(self.timeout, self.dns.lookup(rooted.clone(), kind)).await {
            Ok(Ok(answer)) => {
                let found: Vec<IpAddr> =
                    answer.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
                if found.is_empty() { Err(Refusal::DnsError) } else { Ok(found) }
            }
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
    use std::collections::HashSet;
    use std::sync::Mutex;

    use tokio::net::UdpSocket;

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

    /// Answers questions for A with 192.0.2.1, ignores those for AAAA, and remembers the names.
    #[expect(clippy::disallowed_methods, reason = "a test server has no drain")]
    async fn name_server() -> (SocketAddr, Arc<Mutex<HashSet<Vec<u8>>>>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let names = Arc::<Mutex<HashSet<Vec<u8>>>>::default();
        let seen = Arc::clone(&names);
        tokio::spawn(async move {
            let mut packet = [0; 512];
            while let Ok((_, from)) = socket.recv_from(&mut packet).await {
                let name = packet[12..].split_inclusive(|b| *b == 0).next().unwrap();
                let end = 12 + name.len() + 4;
                seen.lock().unwrap().insert(name.to_ascii_lowercase());
                if packet[end - 3] != 1 {
                    continue;
                }
                let header = [&packet[..2], &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]].concat();
                let answer = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];
                let reply = [&header, &packet[12..end], &answer].concat();
                socket.send_to(&reply, from).await.unwrap();
            }
        });
        (address, names)
    }

    #[tokio::test]
    async fn names_are_asked_for_as_rooted_and_one_family_is_enough() {
        let (server, names) = name_server().await;
        let resolver = Resolver::new(ResolverOptions {
            servers: vec![server],
            hosts: HashMap::new(),
            timeout: Duration::from_secs(30),
        })
        .unwrap();
        let found = resolver.lookup(&Host::parse("a.test").unwrap()).await.unwrap();
        assert_eq!(found, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        let names = names.lock().unwrap().clone();
        assert_eq!(names, HashSet::from([b"\x01a\x04test\x00".to_vec()]));
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
