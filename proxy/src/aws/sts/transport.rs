//! How the proxy's own calls to AWS travel: HTTP/1.1 over a fresh connection, TLS with the roots the
//! proxy was given, connections by the road it was given. No proxy variables are honoured.
//!
//! Calls come about once an hour, so nothing is pooled.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::TokioExecutor;
use thiserror::Error;
use workspace_common::body::{self, Body, BodyError};
use workspace_common::secret::Secret;

use super::road::{Detour, Road};

/// Answers of STS have a few kilobytes; more than this is something else.
const MAX_ANSWER: usize = 256 * 1024;

/// Why a call got no answer.
#[derive(Debug, Error)]
pub enum TransportError {
    /// The request could not be built from the configured endpoint.
    #[error("the request cannot be made: {0}")]
    Request(#[source] http::Error),
    /// Connecting, TLS or the exchange failed.
    #[error("{}", with_causes(.0))]
    Exchange(#[source] ClientError),
    /// The answer was cut or too large.
    #[error("the answer cannot be read: {0}")]
    Answer(#[from] BodyError),
}

/// A lookup of a host name, to be connected to in the order given.
type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// The name resolution of the proxy's own calls.
#[derive(Clone)]
pub struct Dns(Arc<dyn Fn(String) -> Lookup + Send + Sync>);

impl Dns {
    /// Resolution by `lookup`, which gets a host name and answers addresses of any port.
    pub fn new<F, L>(lookup: F) -> Self
    where
        F: Fn(String) -> L + Send + Sync + 'static,
        L: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        Self(Arc::new(move |name| Box::pin(lookup(name))))
    }

    /// No resolution at all: only IP addresses can be connected to.
    #[must_use]
    pub fn none() -> Self {
        Self::new(|name| async move {
            Err(io::Error::new(io::ErrorKind::NotFound, format!("{name} was not looked up")))
        })
    }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dns")
    }
}

impl tower_service::Service<Name> for Dns {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let lookup = (self.0)(name.as_str().to_owned());
        Box::pin(async move { Ok(lookup.await?.into_iter()) })
    }
}

/// A client for the proxy's own calls.
#[derive(Clone, Debug)]
pub struct Transport {
    client: Client<HttpsConnector<Road>, Body>,
}

impl Transport {
    /// A client that trusts what `tls` trusts and looks names up with `dns`.
    #[must_use]
    pub fn new(tls: rustls::ClientConfig, dns: Dns) -> Self {
        Self::by(tls, Road::new(dns, Detour::none()))
    }

    /// A client that trusts what `tls` trusts and connects by this road.
    #[must_use]
    pub fn by(mut tls: rustls::ClientConfig, road: Road) -> Self {
        // The connector chooses the protocols and takes no other choice beside its own.
        tls.alpn_protocols.clear();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(road);
        let client =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Self { client }
    }

    /// Sends `request` and reads the answer whole, up to 256 kB of it.
    ///
    /// # Errors
    /// No complete answer came.
    pub async fn send(
        &self,
        request: Request<Body>,
    ) -> Result<(StatusCode, Secret<Vec<u8>>), TransportError> {
        let response = self.client.request(request).await.map_err(TransportError::Exchange)?;
        let status = response.status();
        let content = body::collect_limited(response.into_body(), MAX_ANSWER).await?;
        Ok((status, Secret::new(content.to_vec())))
    }
}

/// The client's own message is "client error (Connect)"; what helps is below it.
fn with_causes(error: &ClientError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
