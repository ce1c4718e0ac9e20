//! Connects to checked addresses: in order, each a little after the one before, the first that
//! answers wins (RFC 8305 in small).

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::net::TcpStream;

use crate::refusal::Refusal;
use crate::upstream::guard::CheckedAddr;

/// Head start of an address over the next one (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to the first address that answers. The others are dropped.
///
/// # Errors
/// [`Refusal::ConnectTimeout`] when the budget runs out, [`Refusal::ConnectFailed`] when every
/// address refused.
pub async fn dial(
    addresses: &[CheckedAddr],
    budget: Duration,
) -> Result<(TcpStream, CheckedAddr), Refusal> {
    let dialling = async {
        match addresses {
            // Most names have one address, and a race of one needs no referee.
            [only] => attempt(*only).await,
            several => race(several).await,
        }
    };
    match tokio::time::timeout(budget, dialling).await {
        Ok(result) => result,
        Err(_elapsed) => Err(Refusal::ConnectTimeout),
    }
}

async fn race(addresses: &[CheckedAddr]) -> Result<(TcpStream, CheckedAddr), Refusal> {
    let mut waiting = addresses.iter().copied();
    let mut attempts = FuturesUnordered::new();
    let mut failure = Refusal::ConnectFailed;
    attempts.extend(waiting.next().map(attempt));
    // Dropping the race drops the attempts, which closes their sockets.
    loop {
        tokio::select! {
            ended = attempts.next() => match ended {
                Some(Ok(connection)) => return Ok(connection),
                Some(Err(refusal)) => {
                    failure = refusal;
                    attempts.extend(waiting.next().map(attempt));
                }
                None => return Err(failure),
            },
            () = tokio::time::sleep(STAGGER), if waiting.len() > 0 => {
                attempts.extend(waiting.next().map(attempt));
            }
        }
    }
}

async fn attempt(address: CheckedAddr) -> Result<(TcpStream, CheckedAddr), Refusal> {
    match TcpStream::connect(address.socket()).await {
        Ok(stream) => {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "cannot set TCP_NODELAY");
            }
            Ok((stream, address))
        }
        Err(error) if error.kind() == ErrorKind::TimedOut => Err(Refusal::ConnectTimeout),
        Err(_) => Err(Refusal::ConnectFailed),
    }
}

/// The proxy's own TCP listeners, which it never connects to: neither the management API nor a loop
/// through itself is a destination.
#[derive(Clone, Debug, Default)]
pub struct OwnListeners(Vec<SocketAddr>);

impl OwnListeners {
    /// The bound addresses.
    #[must_use]
    pub const fn new(addresses: Vec<SocketAddr>) -> Self {
        Self(addresses)
    }

    /// Whether a connection to the address would reach one of them.
    #[must_use]
    pub fn includes(&self, address: SocketAddr) -> bool {
        self.0.iter().any(|own| own.port() == address.port() && reaches(own.ip(), address.ip()))
    }
}

fn reaches(own: IpAddr, dialled: IpAddr) -> bool {
    if own.is_unspecified() {
        return is_local(dialled);
    }
    own.to_canonical() == dialled.to_canonical()
}

/// Only an address of this machine can be bound to. Binding a datagram socket sends nothing.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::policy::{GuardTerms, PrivateException};
    use crate::upstream::guard;

    fn checked(address: SocketAddr) -> CheckedAddr {
        let loopback = PrivateException::for_tests("127.0.0.0/8".parse().unwrap(), None);
        let terms = GuardTerms { exceptions: vec![loopback], ..GuardTerms::default() };
        let cluster = guard::Cluster::default();
        guard::check(address.ip(), address.port(), &terms, &cluster).unwrap()
    }

    #[tokio::test]
    async fn a_refusing_address_is_followed_by_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bad = gone.local_addr().unwrap();
        drop(gone);
        let addresses = [checked(bad), checked(good)];
        let (_, used) = dial(&addresses, Duration::from_secs(30)).await.unwrap();
        assert_eq!(used.socket(), good);
        let alone = dial(&addresses[..1], Duration::from_secs(30)).await;
        assert_eq!(alone.err(), Some(Refusal::ConnectFailed));
    }

    #[test]
    fn own_listeners_are_known_by_every_local_address() {
        let own = OwnListeners::new(vec![
            "127.0.0.1:9090".parse().unwrap(),
            "0.0.0.0:8080".parse().unwrap(),
        ]);
        for (address, expected) in [
            ("127.0.0.1:9090", true),
            ("[::ffff:127.0.0.1]:9090", true),
            ("127.0.0.2:9090", false),
            ("127.0.0.2:8080", true),
            ("127.0.0.1:80", false),
            ("192.0.2.1:8080", false),
        ] {
            assert_eq!(own.includes(address.parse().unwrap()), expected, "{address}");
        }
    }
}
