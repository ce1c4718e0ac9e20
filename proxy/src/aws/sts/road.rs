//! The TCP connections of the proxy's own calls: direct, or through the upstream proxy.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tower_service::Service;
use workspace_common::body::BoxError;

use super::transport::Dns;
use crate::upstream::channel::Channel;

/// Time for a TCP connection to STS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection in the making.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Channel>> + Send>>;

/// The other way to an endpoint, where there is one.
#[derive(Clone)]
pub struct Detour(Arc<Way>);

/// Gives nothing for what is connected to directly.
type Way = dyn Fn(&Uri) -> Option<Connecting> + Send + Sync;

impl Detour {
    /// By `way`, which gives nothing for what is connected to directly.
    pub fn new(way: impl Fn(&Uri) -> Option<Connecting> + Send + Sync + 'static) -> Self {
        Self(Arc::new(way))
    }

    /// No other way to anywhere.
    #[must_use]
    pub fn none() -> Self {
        Self::new(|_uri| None)
    }
}

impl fmt::Debug for Detour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Detour")
    }
}

/// Connects to endpoints.
#[derive(Clone, Debug)]
pub struct Road {
    tcp: HttpConnector<Dns>,
    detour: Detour,
}

impl Road {
    /// Names of direct connections are looked up with `dns`.
    #[must_use]
    pub fn new(dns: Dns, detour: Detour) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(dns);
        // The TLS connector above it takes both schemes; overrides may name http.
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        Self { tcp, detour }
    }
}

impl Service<Uri> for Road {
    type Response = TokioIo<Channel>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        if let Some(connecting) = (self.detour.0)(&uri) {
            return Box::pin(async move { Ok(TokioIo::new(connecting.await?)) });
        }
        let connecting = self.tcp.call(uri);
        Box::pin(async move { Ok(TokioIo::new(Channel::Plain(connecting.await?.into_inner()))) })
    }
}
