//! From a permit to a connection that leads through the upstream proxy.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::audit::Audit;
use crate::host::{Host, HostPort, Scheme};
use crate::policy::{GuardTerms, Permit, PrivateException};
use crate::refusal::Refusal;
use crate::upstream::channel::Channel;
use crate::upstream::guard::{self, AddressClass, CheckedAddr};
use crate::upstream::via::{Names, Via, handshake};
use crate::upstream::{Connector, dial};

/// Addresses of one host that the upstream proxy is asked for, one after the other.
const MAX_ASKED: usize = 4;

/// One destination as the upstream proxy is asked for it.
struct Asked {
    at: HostPort,
    /// Where the address is known here.
    class: Option<AddressClass>,
}

impl Connector {
    /// The upstream proxy through which connections to the host lead; none where they are direct.
    #[must_use]
    pub fn via(&self, host: &Host) -> Option<Arc<Via>> {
        self.via.load_full().filter(|via| via.carries(host))
    }

    /// Whether the upstream proxy looks the host up: a name that has no fixed address here.
    #[must_use]
    pub fn leaves_lookup_to(&self, via: &Via, host: &Host) -> bool {
        via.names() == Names::There && !host.is_ip() && !self.resolver.has_fixed(host)
    }

    /// A tunnel to the permitted destination.
    pub(in crate::upstream) async fn connect_through(
        &self,
        via: &Via,
        permit: &Permit,
        audit: &mut Audit,
    ) -> Result<Channel, Refusal> {
        audit.via(via.at());
        let mut failure = Refusal::UpstreamProxyFailed;
        for asked in self.asked(via, permit, audit).await?.into_iter().take(MAX_ASKED) {
            let begun = Instant::now();
            match self.tunnel(via, &asked.at).await {
                Ok(stream) => {
                    audit.connected(begun.elapsed(), asked.class);
                    return Ok(stream);
                }
                // Another address of the same host may be one that it reaches.
                Err(Refusal::UpstreamProxyFailed) => failure = Refusal::UpstreamProxyFailed,
                Err(refusal) => return Err(refusal),
            }
        }
        Err(failure)
    }

    async fn asked(
        &self,
        via: &Via,
        permit: &Permit,
        audit: &mut Audit,
    ) -> Result<Vec<Asked>, Refusal> {
        let at = permit.at();
        if self.leaves_lookup_to(via, &at.host) {
            return Ok(vec![Asked { at: at.clone(), class: None }]);
        }
        let addresses = self.look_up(permit, audit).await?;
        let asked = |address: CheckedAddr| Asked {
            at: HostPort { host: address.socket().ip().into(), port: at.port },
            class: Some(address.class()),
        };
        Ok(addresses.into_iter().map(asked).collect())
    }

    /// A tunnel to `to`, which somebody has decided about.
    ///
    /// # Errors
    /// What went wrong on the way to the upstream proxy, or what it answered.
    pub async fn tunnel(&self, via: &Via, to: &HostPort) -> Result<Channel, Refusal> {
        let authorization = via.authorization().await?;
        let mut stream = self.reach(via).await?;
        let asking = handshake::ask(&mut stream, to, authorization.as_ref());
        timeout(self.connect_timeout, asking)
            .await
            .map_err(|_elapsed| Refusal::UpstreamProxyTimeout)??;
        Ok(stream)
    }

    /// A connection to the upstream proxy itself.
    async fn reach(&self, via: &Via) -> Result<Channel, Refusal> {
        let stream = self.reach_in_clear(via.at()).await?;
        if via.scheme() == Scheme::Http {
            return Ok(Channel::Plain(stream));
        }
        timeout(self.connect_timeout, self.proxy_tls.secure(&via.at().host, stream))
            .await
            .map_err(|_elapsed| Refusal::UpstreamProxyTimeout)?
    }

    async fn reach_in_clear(&self, proxy: &HostPort) -> Result<TcpStream, Refusal> {
        let found = self.resolver.lookup(&proxy.host).await.map_err(|refusal| {
            tracing::warn!(host = %proxy.host, code = refusal.code(), "the upstream proxy has no address");
            Refusal::UpstreamProxyUnreachable
        })?;
        let judge = |ip: IpAddr| guard::check(ip, proxy.port, &configured(), &self.cluster).ok();
        let addresses: Vec<CheckedAddr> = found.into_iter().filter_map(judge).collect();
        if addresses.iter().any(|address| self.own.includes(address.socket())) {
            return Err(Refusal::SelfConnection);
        }
        match dial::dial(&addresses, self.connect_timeout).await {
            Ok((stream, _used)) => Ok(stream),
            Err(Refusal::ConnectTimeout) => Err(Refusal::UpstreamProxyTimeout),
            Err(_refused) => Err(Refusal::UpstreamProxyUnreachable),
        }
    }
}

/// The operator chose the upstream proxy, so it may be on an internal address. What no exception
/// opens stays closed to it as well.
fn configured() -> GuardTerms {
    let everywhere = [IpNet::from(Ipv4Net::default()), IpNet::from(Ipv6Net::default())];
    let exceptions = everywhere.map(|net| PrivateException::new(net, None)).to_vec();
    GuardTerms { exceptions, ..GuardTerms::default() }
}
