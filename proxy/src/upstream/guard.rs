//! The address guard: which IP addresses a workspace may be connected to.
//!
//! Pure: it judges addresses and opens nothing. Names grant no addresses; every address that a name
//! resolves to comes here, and only survivors are dialled.
//!
//! Invariant: what is not global unicast is refused unless an exception of the policy file names it,
//! and metadata services and link-local addresses are refused even then, in every IPv6 form that
//! carries an IPv4 address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::policy::GuardTerms;
use crate::refusal::Refusal;

/// What kind of address a destination resolved to. The names are part of the audit line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressClass {
    /// Global unicast: the internet.
    Public,
    /// The machine itself.
    Loopback,
    /// RFC 1918, RFC 4193 and the local-use translation prefix of RFC 8215.
    Private,
    /// Shared address space of carriers and of some clusters (RFC 6598).
    Shared,
    /// Documentation and benchmarking ranges, routed by nobody.
    Test,
    /// 169.254.0.0/16 and fe80::/10.
    LinkLocal,
    /// A cloud's metadata or credential service.
    Metadata,
    /// Multicast and broadcast.
    Multicast,
    /// Everything else that is not global unicast, unspecified and tunnelling forms included.
    Reserved,
}

impl AddressClass {
    /// The stable name for audit lines and error texts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::Shared => "shared",
            Self::Test => "test",
            Self::LinkLocal => "link_local",
            Self::Metadata => "metadata",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
        }
    }

    /// Classes that no exception can open.
    #[must_use]
    pub const fn is_hard(self) -> bool {
        matches!(self, Self::LinkLocal | Self::Metadata | Self::Multicast | Self::Reserved)
    }
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Ports of a Kubernetes control plane and node (etcd, API server, kubelet, controllers). No
/// exception opens them on an address that is not public.
const CLUSTER_PORTS: [u16; 8] = [2379, 2380, 6443, 10250, 10255, 10256, 10257, 10259];

/// An address that passed the guard, with its class. The only thing that is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckedAddr {
    socket: SocketAddr,
    class: AddressClass,
}

impl CheckedAddr {
    /// The address to dial, exactly as judged.
    #[must_use]
    pub const fn socket(self) -> SocketAddr {
        self.socket
    }

    /// Its class.
    #[must_use]
    pub const fn class(self) -> AddressClass {
        self.class
    }
}

/// Judges one resolved address by what the permit says about its host.
///
/// # Errors
/// [`Refusal::AddressDenied`] with the class, or [`Refusal::PortDenied`] for a cluster port on an
/// address that an exception opened.
pub fn check(
    ip: IpAddr,
    port: u16,
    terms: &GuardTerms,
    cluster: &Cluster,
) -> Result<CheckedAddr, Refusal> {
    let ip = ip.to_canonical();
    let class = classify(ip);
    let checked = CheckedAddr { socket: SocketAddr::new(ip, port), class };
    // A range that is written in IPv4 means its addresses behind NAT64 as well.
    let inner = carried_v4(ip).map(IpAddr::V4);
    let mut readings = [Some(ip), inner].into_iter().flatten();
    let denied = readings.any(|ip| {
        cluster.api_server == Some(ip) || terms.extra_deny.containing(ip).next().is_some()
    });
    if class.is_hard() || denied {
        return Err(Refusal::AddressDenied(class));
    }
    if class == AddressClass::Public {
        return Ok(checked);
    }
    if !terms.exceptions.iter().any(|e| e.opens(ip, port)) {
        return Err(Refusal::AddressDenied(class));
    }
    if CLUSTER_PORTS.contains(&port) || cluster.api_port == Some(port) {
        return Err(Refusal::PortDenied);
    }
    Ok(checked)
}

/// The API server of the cluster around the proxy, which no workspace has business with.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Its address, closed whatever the policy says.
    pub api_server: Option<IpAddr>,
    /// Its port, closed on every address that is not public, 443 apart: too much else is there.
    pub api_port: Option<u16>,
}

impl Cluster {
    /// What Kubernetes says in the environment of every container.
    #[must_use]
    pub fn from_environment() -> Self {
        let variable = |name| std::env::var(name).ok();
        Self {
            api_server: variable("KUBERNETES_SERVICE_HOST").and_then(|text| text.parse().ok()),
            api_port: variable("KUBERNETES_SERVICE_PORT")
                .and_then(|text| text.parse().ok())
                .filter(|port| *port != 443),
        }
    }
}

/// The class of an address, by the IANA special-purpose registries and the clouds' documents.
#[must_use]
pub fn classify(ip: IpAddr) -> AddressClass {
    match ip {
        IpAddr::V4(ip) => classify_v4(ip),
        IpAddr::V6(ip) => classify_v6(ip),
    }
}

fn classify_v4(ip: Ipv4Addr) -> AddressClass {
    use AddressClass as C;
    match ip.octets() {
        // Azure's wire server, Oracle's and Alibaba's metadata; outside link-local.
        [168, 63, 129, 16] | [192, 0, 0, 192] | [100, 100, 100, 200] => C::Metadata,
        // AWS, GCP, Azure and most others; ECS task and EKS pod credentials.
        [169, 254, 169, 253 | 254] | [169, 254, 170, 2 | 23] => C::Metadata,
        [169, 254, ..] => C::LinkLocal,
        [127, ..] => C::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => C::Private,
        [100, 64..=127, ..] => C::Shared,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [198, 18 | 19, ..] => C::Test,
        [224..=239, ..] | [255, 255, 255, 255] => C::Multicast,
        // This network, IETF protocol assignments, 6to4 relays, AS112, AMT, class E.
        [0, ..]
        | [192, 0, 0, _]
        | [192, 88, 99, _]
        | [192, 31, 196, _]
        | [192, 52, 193, _]
        | [192, 175, 48, _]
        | [240..=255, ..] => C::Reserved,
        _ => C::Public,
    }
}

fn carried_v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(ip) => mapped_or_nat64(ip),
    }
}

fn classify_v6(ip: Ipv6Addr) -> AddressClass {
    use AddressClass as C;
    // What is inside decides for the two forms that a host really dials as IPv4.
    if let Some(v4) = mapped_or_nat64(ip) {
        return classify_v4(v4);
    }
    // A network may translate under a prefix of its own (RFC 6052): whatever ends in the address of a
    // metadata service is taken for it.
    if embedded_v4(ip).any(is_hard_v4) || classify_v4(last_v4(ip)) == C::Metadata {
        return C::Metadata;
    }
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => C::Loopback,
        // Credential and metadata services of AWS, Oracle, GCP and Scaleway.
        [0xfd00, 0xec2 | 0xc1, ..] | [0xfd20, 0xce, ..] | [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42] => {
            C::Metadata
        }
        [0xfe80..=0xfebf, ..] => C::LinkLocal,
        [0xfc00..=0xfdff, ..] | [0x64, 0xff9b, 1, ..] => C::Private,
        [0xff00..=0xffff, ..] => C::Multicast,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] | [0x2001, 2, 0, ..] => C::Test,
        // ISATAP interface identifiers under any prefix.
        [.., 0 | 0x200, 0x5efe, _, _] => C::Reserved,
        // IETF assignments with Teredo and ORCHID, 6to4, AS112 and SRv6 identifiers.
        [0x2001, 0..=0x1ff, ..] | [0x2002, ..] | [0x2620, 0x4f, 0x8000, ..] => C::Reserved,
        [0x2000..=0x3fff, ..] => C::Public,
        // Only 2000::/3 is given out as global unicast.
        _ => C::Reserved,
    }
}

/// `::ffff:a.b.c.d` and the well-known NAT64 prefix `64:ff9b::/96` (RFC 6052), through which an
/// IPv6-only cluster reaches the IPv4 internet.
fn mapped_or_nat64(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(joined(high, low)),
        _ => ip.to_ipv4_mapped(),
    }
}

/// Every IPv4 address that some translation or tunnel would read out of this address.
fn embedded_v4(ip: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let s = ip.segments();
    let [_, s1, s2, s3, s4, s5, s6, s7] = s;
    let none = None::<Ipv4Addr>;
    let found = match s {
        // IPv4-compatible, SIIT and ISATAP end in the address.
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [.., 0 | 0x200, 0x5efe, _, _] => {
            [Some(joined(s6, s7)), none, none, none]
        }
        [0x2002, ..] => [Some(joined(s1, s2)), none, none, none],
        // Teredo: the server, and the client with its bits inverted (RFC 4380).
        [0x2001, 0, ..] => [Some(joined(s2, s3)), Some(joined(!s6, !s7)), none, none],
        // Local-use NAT64 (RFC 8215) with prefixes of 48, 56, 64 and 96 bits (RFC 6052).
        [0x64, 0xff9b, 1, ..] => [
            Some(joined(s3, (s4 << 8) | (s5 >> 8))),
            Some(joined((s3 << 8) | (s4 & 0xff), s5)),
            Some(joined((s4 << 8) | (s5 >> 8), (s5 << 8) | (s6 >> 8))),
            Some(joined(s6, s7)),
        ],
        _ => [none; 4],
    };
    found.into_iter().flatten()
}

fn last_v4(ip: Ipv6Addr) -> Ipv4Addr {
    let [.., high, low] = ip.segments();
    joined(high, low)
}

fn is_hard_v4(ip: Ipv4Addr) -> bool {
    matches!(classify_v4(ip), AddressClass::Metadata | AddressClass::LinkLocal)
}

fn joined(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low))
}

#[cfg(test)]
mod tests;
