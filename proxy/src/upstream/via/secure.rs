//! The TLS connection to an upstream proxy that wants one. What a tunnel carries is TLS of its own
//! inside, most of the time.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::host::Host;
use crate::refusal::Refusal;
use crate::upstream::channel::Channel;
use crate::upstream::exchange::server_name;

/// Makes such connections, with the roots that origins are verified with.
#[derive(Clone)]
pub struct ProxyTls(TlsConnector);

impl fmt::Debug for ProxyTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyTls")
    }
}

impl ProxyTls {
    /// Takes the roots.
    #[must_use]
    pub fn new(mut config: ClientConfig) -> Self {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self(TlsConnector::from(Arc::new(config)))
    }

    /// Secures a connection to the upstream proxy on this host.
    ///
    /// # Errors
    /// [`Refusal::UpstreamProxyUnreachable`] when its certificate is not valid, or it speaks no TLS.
    pub async fn secure(&self, host: &Host, stream: TcpStream) -> Result<Channel, Refusal> {
        let secured = self.0.connect(server_name(host)?, stream).await.map_err(|error| {
            tracing::warn!(%error, %host, "TLS handshake with the upstream proxy failed");
            Refusal::UpstreamProxyUnreachable
        })?;
        Ok(Channel::Secured(Box::new(secured)))
    }
}
