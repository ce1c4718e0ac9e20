//! One HTTP/1.1 request to an origin and the head of its answer.
//!
//! Redirects are not followed, nothing is cached, nothing is decoded. A request is sent a second
//! time only when the first try went into a connection that the origin had already closed.

use std::error::Error as _;
use std::future::Future;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use workspace_common::body::{self, Body};
use workspace_common::drain::Drain;

use crate::audit::Audit;
use crate::host::{Host, Scheme};
use crate::policy::Permit;
use crate::refusal::Refusal;
use crate::stream_body::{Cut, OverLimit};
use crate::upstream::Connector;
use crate::upstream::channel::Channel;
use crate::upstream::line::{Line, Outgoing};
use crate::upstream::pool::{Key, Lease, Pool};

/// Sends requests to origins.
#[derive(Debug)]
pub struct Exchanger {
    connector: Arc<Connector>,
    tls: TlsConfig,
    pool: Arc<Pool>,
    drain: Drain,
}

/// Debug of the connector prints nothing of use.
struct TlsConfig(TlsConnector);

impl std::fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsConfig")
    }
}

/// Whether a request may use a connection that has served another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// A plain request.
    Pooled,
    /// The request asks for an upgrade; the connection will be something else afterwards.
    Apart,
}

/// How a request is sent.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// On which connection.
    pub reuse: Reuse,
    /// How long the origin may be silent.
    pub idle: Duration,
}

impl Exchanger {
    /// Makes one over a connector and TLS roots.
    #[must_use]
    pub fn new(connector: Arc<Connector>, mut tls: rustls::ClientConfig, drain: Drain) -> Self {
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tls = TlsConfig(TlsConnector::from(Arc::new(tls)));
        Self { connector, tls, pool: Arc::default(), drain }
    }

    /// The connector beneath, for tunnels.
    #[must_use]
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// The idle connections.
    #[must_use]
    pub const fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Sends a request whose URI is in origin-form and returns the head of the answer.
    ///
    /// # Errors
    /// What went wrong on the way. Nothing of the origin's words is in it.
    pub async fn send(
        &self,
        permit: &Permit,
        request: Request<Body>,
        manner: Manner,
        audit: &mut Audit,
    ) -> Result<(Response<Incoming>, Lease), Refusal> {
        let key = Key::of(permit);
        let mut pending = Pending::new(request, manner);
        if manner.reuse == Reuse::Pooled
            && let Some(line) = self.pool.take(&key)
        {
            match self.attempt(line, &mut pending, audit).await {
                Ok((response, line)) => return Ok((response, Lease { key, line })),
                Err(Failure::Closed) if pending.can_be_repeated() => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        let line = self.fresh(permit, audit).await?;
        let (response, line) = self.attempt(line, &mut pending, audit).await?;
        Ok((response, Lease { key, line }))
    }

    /// Keeps a connection in clear that stands already for the next request of its permit.
    ///
    /// # Errors
    /// When it has broken meanwhile.
    pub async fn adopt(&self, permit: &Permit, stream: Channel) -> Result<(), Refusal> {
        let line = self.line(stream).await?;
        self.pool.keep(Lease { key: Key::of(permit), line });
        Ok(())
    }

    async fn fresh(&self, permit: &Permit, audit: &mut Audit) -> Result<Line, Refusal> {
        let stream = self.connector.connect(permit, audit).await?;
        match permit.scheme() {
            Scheme::Http => self.line(stream).await,
            Scheme::Https => {
                let name = server_name(&permit.at().host)?;
                let limit = self.connector.connect_timeout;
                let secured = tokio::time::timeout(limit, self.tls.0.connect(name, stream)).await;
                match secured {
                    Ok(Ok(stream)) => self.line(stream).await,
                    Ok(Err(error)) => {
                        tracing::info!(%error, host = %permit.at().host, "TLS handshake failed");
                        Err(Refusal::TlsFailed)
                    }
                    Err(_elapsed) => Err(Refusal::ConnectTimeout),
                }
            }
        }
    }

    async fn line<I>(&self, stream: I) -> Result<Line, Refusal>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Line::open(stream).await.map_err(|error| refusal_of(&error))
    }

    /// Sends the request on a line, and has the line go on by itself where its user will not move it.
    async fn attempt(
        &self,
        mut line: Line,
        pending: &mut Pending,
        audit: &Audit,
    ) -> Result<(Response<Incoming>, Line), Failure> {
        let request = pending.take().ok_or(Failure::Closed)?;
        if pending.reuse == Reuse::Apart {
            line.detach(&self.drain);
        }
        let counts = audit.counts();
        match line.ask(request, &counts.up, pending.idle).await {
            None => Err(Failure::Final(Refusal::UpstreamTimeout)),
            Some(Ok(response)) => {
                if line.is_uploading() {
                    line.detach(&self.drain);
                }
                Ok((response, line))
            }
            Some(Err(mut error)) => {
                if let Some(request) = error.take_message() {
                    pending.unsent(request.map(Outgoing::take_back));
                }
                Err(Failure::of(error.error()))
            }
        }
    }
}

/// How an attempt failed.
enum Failure {
    /// The connection was closed before an answer, as happens to kept ones.
    Closed,
    /// In a way that another attempt would not change.
    Final(Refusal),
}

impl Failure {
    fn of(error: &hyper::Error) -> Self {
        let source = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
        // An answer that was refused for its framing would be the same again.
        let broken = source.is_some_and(|source| source.kind() != ErrorKind::InvalidData);
        let closed = error.is_canceled() || error.is_closed() || error.is_incomplete_message();
        if (closed || broken) && !error.is_user() {
            return Self::Closed;
        }
        Self::Final(refusal_of(error))
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Closed => Self::BadUpstream,
            Failure::Final(refusal) => refusal,
        }
    }
}

/// The bytes of the destination for a tunnel, by the same connector.
///
/// # Errors
/// As [`Connector::connect`].
pub async fn open_tunnel(
    exchanger: &Exchanger,
    permit: &Permit,
    audit: &mut Audit,
) -> Result<Channel, Refusal> {
    exchanger.connector.connect(permit, audit).await
}

/// The name that the certificate of a host must have.
pub(in crate::upstream) fn server_name(host: &Host) -> Result<ServerName<'static>, Refusal> {
    match (host.ip(), host.name()) {
        (Some(ip), _) => Ok(ServerName::from(ip)),
        (None, Some(name)) => {
            ServerName::try_from(name.to_owned()).map_err(|_ignored| Refusal::BadHost)
        }
        (None, None) => Err(Refusal::BadHost),
    }
}

/// The words of the error stay in the debug log: they may quote the origin.
fn refusal_of(error: &hyper::Error) -> Refusal {
    tracing::debug!(%error, "exchange failed");
    match error.source() {
        Some(source) if source.is::<OverLimit>() => Refusal::BodyTooLarge,
        Some(source) if source.is::<Cut>() => Refusal::RuleExpired,
        // The client's body broke; not so where the library's own task was dropped, which it counts
        // among the mistakes of its users and gives a text for a cause.
        Some(source) if error.is_user() && source.is::<hyper::Error>() => Refusal::BadBody,
        _ => Refusal::BadUpstream,
    }
}

/// Waits for an outcome as long as something moves: an upload in progress counts.
pub(crate) async fn unless_idle<F: Future>(
    answer: F,
    up: &AtomicU64,
    idle: Duration,
) -> Option<F::Output> {
    let mut answer = std::pin::pin!(answer);
    loop {
        let before = up.load(Ordering::Relaxed);
        match tokio::time::timeout(idle, answer.as_mut()).await {
            Ok(output) => return Some(output),
            Err(_elapsed) if up.load(Ordering::Relaxed) != before => {}
            Err(_elapsed) => return None,
        }
    }
}

/// A request with what is needed to send it again.
struct Pending {
    request: Option<Request<Body>>,
    copy: Option<Copy>,
    reuse: Reuse,
    idle: Duration,
}

/// The head of a request that is safe to repeat and has no body.
struct Copy {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Pending {
    fn new(request: Request<Body>, manner: Manner) -> Self {
        let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let copy = (safe && request.body().is_end_stream()).then(|| Copy {
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
        });
        Self { request: Some(request), copy, reuse: manner.reuse, idle: manner.idle }
    }

    fn take(&mut self) -> Option<Request<Body>> {
        if let Some(request) = self.request.take() {
            return Some(request);
        }
        let copy = self.copy.take()?;
        let mut request = Request::new(body::empty());
        *request.method_mut() = copy.method;
        *request.uri_mut() = copy.uri;
        *request.headers_mut() = copy.headers;
        Some(request)
    }

    /// The request comes back when not a byte of it was sent.
    fn unsent(&mut self, request: Request<Body>) {
        self.request = Some(request);
    }

    const fn can_be_repeated(&self) -> bool {
        self.request.is_some() || self.copy.is_some()
    }
}
