//! The HTTP/1.1 client of the command lines: one server, named once, over a Unix socket or TCP.
//!
//! Not a general client: no redirects, no pool, no proxies. A connection is kept while the server
//! keeps it.

use std::{fmt, io, path::PathBuf, str::FromStr};

use http::{HeaderValue, Request, Response, header};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{
    body::Body,
    stream::{Stream, connect_unix},
    token::BearerToken,
};

/// Where the server is: `unix:/path`, or `http://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix domain socket.
    Unix(PathBuf),
    /// `host:port` of a TCP server.
    Http(String),
}

/// Why a text is not the address of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a server address: write unix:/path/to.sock or http://HOST:PORT")]
pub struct EndpointError(String);

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || EndpointError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(bad()) };
        }
        let rest = text.strip_prefix("http://").ok_or_else(bad)?;
        let authority: http::uri::Authority =
            rest.trim_end_matches('/').parse().map_err(|_ignored| bad())?;
        if authority.as_str().contains('@') {
            return Err(bad());
        }
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self::Http(format!("{}:{port}", authority.host())))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Http(authority) => write!(f, "http://{authority}"),
        }
    }
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers at the address.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// The server's address.
        endpoint: Endpoint,
        /// What the kernel said.
        source: io::Error,
    },
    /// The connection broke before the answer.
    #[error("{endpoint} gave no answer: {source}")]
    Exchange {
        /// The server's address.
        endpoint: Endpoint,
        /// What went wrong on the connection.
        source: hyper::Error,
    },
}

/// A client of one server.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    token: Option<BearerToken>,
    kept: tokio::sync::Mutex<Option<http1::SendRequest<Body>>>,
}

impl Client {
    /// A client of the server at `endpoint` that presents `token` with every request.
    pub fn new(endpoint: Endpoint, token: Option<BearerToken>) -> Self {
        Self { endpoint, token, kept: tokio::sync::Mutex::new(None) }
    }

    /// The server's address.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends `request`, whose URI is a path, and returns the head of the answer.
    ///
    /// # Errors
    /// When the server cannot be reached or the connection breaks.
    pub async fn request(
        &self,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, ClientError> {
        self.complete(&mut request);
        let mut sender = match self.take_kept().await {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let answer = sender.send_request(request).await;
        *self.kept.lock().await = Some(sender);
        answer.map_err(|source| self.exchange_error(source))
    }

    /// The connection of the last request, when the server still keeps it open.
    async fn take_kept(&self) -> Option<http1::SendRequest<Body>> {
        let mut sender = self.kept.lock().await.take()?;
        sender.ready().await.ok().map(|()| sender)
    }

    /// Like [`Client::request`], for a request that upgrades or streams for long: on a connection
    /// of its own.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn request_apart(
        &self,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, ClientError> {
        self.complete(&mut request);
        let mut sender = self.connect().await?;
        sender.send_request(request).await.map_err(|source| self.exchange_error(source))
    }

    fn complete(&self, request: &mut Request<Body>) {
        let headers = request.headers_mut();
        let host = match &self.endpoint {
            Endpoint::Unix(_) => HeaderValue::from_static("localhost"),
            Endpoint::Http(authority) => HeaderValue::from_str(authority)
                .unwrap_or_else(|_ignored| HeaderValue::from_static("localhost")),
        };
        headers.entry(header::HOST).or_insert(host);
        if let Some(value) = self.token.as_ref().and_then(BearerToken::header_value) {
            headers.insert(header::AUTHORIZATION, value);
        }
    }

    async fn connect(&self) -> Result<http1::SendRequest<Body>, ClientError> {
        let connected = match &self.endpoint {
            Endpoint::Unix(path) => connect_unix(path).await.map(Stream::Unix),
            Endpoint::Http(authority) => TcpStream::connect(authority).await.map(Stream::tcp),
        };
        let stream = connected
            .map_err(|source| ClientError::Connect { endpoint: self.endpoint.clone(), source })?;
        let (sender, connection) = http1::Builder::new()
            .handshake(TokioIo::new(stream.for_bulk()))
            .await
            .map_err(|source| self.exchange_error(source))?;
        drive(connection);
        Ok(sender)
    }

    fn exchange_error(&self, source: hyper::Error) -> ClientError {
        ClientError::Exchange { endpoint: self.endpoint.clone(), source }
    }
}

/// Drives a connection until either side closes it.
#[expect(
    clippy::disallowed_methods,
    reason = "command lines end with their runtime, not by a drain"
)]
fn drive(connection: http1::Connection<TokioIo<Stream>, Body>) {
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection ended with an error");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_parse_or_are_refused_with_the_text() {
        assert_eq!("unix:/run/a.sock".parse(), Ok(Endpoint::Unix("/run/a.sock".into())));
        assert_eq!("unix:///run/a.sock".parse(), Ok(Endpoint::Unix("/run/a.sock".into())));
        assert_eq!("http://10.0.0.1:8080/".parse(), Ok(Endpoint::Http("10.0.0.1:8080".into())));
        assert_eq!("http://agent.test".parse(), Ok(Endpoint::Http("agent.test:80".into())));
        for bad in ["", "unix:a.sock", "ftp://a", "http://", "http://u@a:1", "http://a b"] {
            let error = bad.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(&format!("'{bad}'")), "{error}");
        }
    }
}
