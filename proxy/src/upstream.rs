//! The way out: from a permit to a connection. Nothing else in the program opens a socket to a
//! destination that a workspace chose.
//!
//! Order: resolve, judge every address, refuse the proxy's own listeners, dial what is left. Where an
//! upstream proxy is configured ([`via`]), it is dialled in place of that, and asked for a tunnel.

pub mod channel;
pub mod dial;
pub mod exchange;
pub mod guard;
pub mod line;
pub mod pool;
pub mod resolve;
pub mod tls;
pub mod via;

use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use crate::audit::Audit;
use crate::policy::Permit;
use crate::refusal::Refusal;
use crate::upstream::channel::Channel;
use crate::upstream::dial::OwnListeners;
use crate::upstream::guard::{CheckedAddr, Cluster};
use crate::upstream::resolve::Resolver;
use crate::upstream::via::Via;
use crate::upstream::via::secure::ProxyTls;

/// What connecting needs.
#[derive(Debug)]
pub struct Connector {
    /// Names to addresses.
    pub resolver: Resolver,
    /// Listeners of this process.
    pub own: OwnListeners,
    /// The cluster around the proxy.
    pub cluster: Cluster,
    /// Limit for all attempts together, resolution apart.
    pub connect_timeout: Duration,
    /// The proxy that everything leaves through; none where there is a way of our own.
    pub via: ArcSwapOption<Via>,
    /// TLS to that proxy, where it wants it.
    pub proxy_tls: ProxyTls,
}

impl Connector {
    /// Connects to the permitted destination.
    ///
    /// # Errors
    /// A refusal of the guard, or what went wrong on the way.
    pub async fn connect(&self, permit: &Permit, audit: &mut Audit) -> Result<Channel, Refusal> {
        if let Some(via) = self.via(&permit.at().host) {
            return self.connect_through(&via, permit, audit).await;
        }
        let addresses = self.look_up(permit, audit).await?;
        let begun = Instant::now();
        let (stream, used) = dial::dial(&addresses, self.connect_timeout).await?;
        audit.connected(begun.elapsed(), Some(used.class()));
        Ok(Channel::Plain(stream))
    }

    /// Resolves and judges.
    async fn look_up(
        &self,
        permit: &Permit,
        audit: &mut Audit,
    ) -> Result<Vec<CheckedAddr>, Refusal> {
        let begun = Instant::now();
        let found = self.resolver.lookup(&permit.at().host).await;
        audit.resolved(begun.elapsed());
        self.survivors(permit, found?)
    }

    /// The addresses that would be dialled, for those who only want to know.
    ///
    /// # Errors
    /// As [`Self::connect`], apart from dialling.
    pub async fn addresses(&self, permit: &Permit) -> Result<Vec<CheckedAddr>, Refusal> {
        let found = self.resolver.lookup(&permit.at().host).await?;
        self.survivors(permit, found)
    }

    /// The addresses that the guard lets through; its first refusal when there is none.
    fn survivors(
        &self,
        permit: &Permit,
        found: Vec<std::net::IpAddr>,
    ) -> Result<Vec<CheckedAddr>, Refusal> {
        let mut refusal = Refusal::DnsError;
        let mut survivors = Vec::with_capacity(found.len());
        for ip in found.into_iter().rev() {
            match self.judge(permit, ip) {
                Ok(address) => survivors.push(address),
                Err(reason) => refusal = reason,
            }
        }
        survivors.reverse();
        if survivors.is_empty() { Err(refusal) } else { Ok(survivors) }
    }

    fn judge(&self, permit: &Permit, ip: std::net::IpAddr) -> Result<CheckedAddr, Refusal> {
        let port = permit.at().port;
        let address = guard::check(ip, port, permit.guard(), &self.cluster);
        // The proxy itself is told apart even where no exception opens the address, because that is
        // the clearer message.
        if self.own.includes(std::net::SocketAddr::new(ip.to_canonical(), port)) {
            return Err(Refusal::SelfConnection);
        }
        address
    }
}
