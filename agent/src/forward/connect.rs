//! A way through the proxy to one TCP service: CONNECT (RFC 9110 section 9.3.6), then bytes. The
//! proxy decides; here nothing is known of its policy.

use std::{io, path::PathBuf, time::Duration};

use http::{Request, StatusCode};
use hyper::{client::conn::http1, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use workspace_common::{body, drain::Drain};

use super::{dial, spec::Destination};

/// How long the proxy may take to decide, to resolve the name and to connect.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest head of the proxy's answer.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The header in which the proxy names its reason.
const REASON: &str = "x-proxy-error";

/// A service and the proxy on the way to it.
#[derive(Debug)]
pub struct Tunnel {
    /// The proxy's Unix socket.
    pub via: PathBuf,
    /// The service.
    pub to: Destination,
}

/// Why a tunnel did not open.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The proxy says no, or cannot reach the service itself.
    #[error("the proxy answered {status} ({code})")]
    Refused {
        /// Its answer.
        status: StatusCode,
        /// Its reason, `-` if it gave none.
        code: String,
    },
    /// Nobody accepts at the proxy's socket.
    #[error("cannot connect to the proxy: {0}; is it running?")]
    Dial(#[source] io::Error),
    /// It accepted and gave no answer.
    #[error("the proxy gave no answer within {}s", ANSWER_TIMEOUT.as_secs())]
    Silent,
    /// What it sent is no answer, or it hung up.
    #[error("the proxy gave no proper answer: {0}")]
    Exchange(#[from] hyper::Error),
    /// The destination cannot stand in a request. Its parser lets no such one pass.
    #[error("cannot ask for the service: {0}")]
    Request(#[from] http::Error),
}

impl Tunnel {
    /// Asks the proxy for the service and waits until it has connected.
    ///
    /// # Errors
    /// When it refuses, or does not answer properly.
    pub async fn open(&self, drain: &Drain) -> Result<TokioIo<Upgraded>, ConnectError> {
        let stream = dial(&self.via).await.map_err(ConnectError::Dial)?;
        let opening = async {
            let (mut sender, connection) = http1::Builder::new()
                .max_buf_size(MAX_HEAD_BYTES)
                .handshake(TokioIo::new(stream))
                .await?;
            // It ends with the tunnel, or when this future is lost.
            drain.spawn_uncounted(async move {
                if let Err(error) = connection.with_upgrades().await {
                    tracing::debug!(%error, "the proxy's connection ended with an error");
                }
            });
            let answer = sender.send_request(self.request()?).await?;
            if !answer.status().is_success() {
                return Err(refusal(&answer));
            }
            Ok(TokioIo::new(hyper::upgrade::on(answer).await?))
        };
        timeout(ANSWER_TIMEOUT, opening).await.unwrap_or(Err(ConnectError::Silent))
    }

    fn request(&self) -> Result<Request<body::Body>, http::Error> {
        let to = self.to.to_string();
        Request::connect(&to).header(http::header::HOST, &to).body(body::empty())
    }
}

fn refusal<B>(answer: &http::Response<B>) -> ConnectError {
    let code = answer.headers().get(REASON).and_then(|reason| reason.to_str().ok()).unwrap_or("-");
    ConnectError::Refused { status: answer.status(), code: code.to_owned() }
}
