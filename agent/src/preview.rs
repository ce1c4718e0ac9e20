//! The way in to a port that a command serves: `/v1/ports/{port}/…` is passed on to loopback in the
//! commands' network, which the agent is in and its callers are not. HTTP/1.1, streams as they come,
//! WebSockets; no other protocol.
//!
//! What answers is untrusted code. It gets nothing of the caller's credential, and it cannot pass
//! for the agent: every answer of its carries `X-Workspace-Port`.

mod request;
mod upstream;

use std::{collections::BTreeSet, num::NonZeroU16, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::{
    io::copy_bidirectional,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use workspace_common::linger::Received;
use workspace_common::{
    body::{self, Body, BoxError},
    drain::Drain,
    hop,
    problem::Problem,
};

use self::{request::PortCall, upstream::UpstreamError};

/// Requests under way at once, with the streams and WebSockets they have become.
const MAX_CALLS: usize = 256;
/// On every answer that comes from the workspace, and on none of the agent's own.
const MARK: HeaderName = HeaderName::from_static("x-workspace-port");

/// What all calls share.
#[derive(Debug)]
pub struct Previews {
    closed: BTreeSet<u16>,
    slots: Arc<Semaphore>,
    drain: Drain,
}

impl Previews {
    /// Previews of all ports but `closed`, which lead out of the workspace or to the agent itself.
    /// WebSockets end when `drain` begins.
    pub fn new(closed: BTreeSet<u16>, drain: Drain) -> Self {
        Self { closed, slots: Arc::new(Semaphore::new(MAX_CALLS)), drain }
    }

    /// Passes a request on. `call` is the path behind `/v1/ports/`.
    ///
    /// # Errors
    /// When there is no such port, it is closed, or nobody there answers properly.
    pub async fn handle(
        &self,
        call: &str,
        mut request: Request<Received>,
    ) -> Result<Response<Body>, Problem> {
        let call = PortCall::parse(call, request.uri().query())?;
        if self.closed.contains(&call.port.get()) {
            return Err(closed(call.port));
        }
        let slot = self.slots.clone().try_acquire_owned().map_err(|_full| too_many())?;
        let socket = request::asks_for_websocket(&request);
        let client = socket.then(|| hyper::upgrade::on(&mut request));
        let request = call.outgoing(request, socket);
        let answer = upstream::exchange(call.port, request, &self.drain)
            .await
            .map_err(|error| problem(call.port, &error))?;
        match client {
            Some(client) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Ok(self.open(call.port, client, answer, slot))
            }
            _ if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Err(problem(call.port, &UpstreamError::Unasked))
            }
            _ => Ok(pass_back(call.port, answer, slot)),
        }
    }

    /// Answers 101, and relays bytes from then on.
    fn open(
        &self,
        port: NonZeroU16,
        client: OnUpgrade,
        mut answer: Response<Incoming>,
        slot: OwnedSemaphorePermit,
    ) -> Response<Body> {
        let served = hyper::upgrade::on(&mut answer);
        self.drain.spawn_background(async move {
            if let (Ok(client), Ok(served)) = tokio::join!(client, served) {
                let (mut client, mut served) = (TokioIo::new(client), TokioIo::new(served));
                let relayed = copy_bidirectional(&mut client, &mut served).await;
                tracing::debug!(%port, ?relayed, "a WebSocket has ended");
            }
            drop(slot);
        });
        let mut response = answer.map(|_empty| body::empty());
        clean(response.headers_mut(), port);
        request::set_upgrade(response.headers_mut());
        response
    }
}

/// The answer with its body as it comes; `slot` is free again when that has ended.
fn pass_back(
    port: NonZeroU16,
    answer: Response<Incoming>,
    slot: OwnedSemaphorePermit,
) -> Response<Body> {
    let mut response = answer.map(|body| {
        let held = move |error: hyper::Error| -> BoxError {
            let _until_the_body_is_dropped = &slot;
            error.into()
        };
        body.map_err(held).boxed_unsync()
    });
    clean(response.headers_mut(), port);
    response
}

fn clean(headers: &mut HeaderMap, port: NonZeroU16) {
    hop::remove_false_length(headers);
    hop::remove_hop_by_hop(headers);
    headers.insert(MARK, HeaderValue::from(port.get()));
}

fn closed(port: NonZeroU16) -> Problem {
    let detail = format!(
        "port {port} is the agent's own: a forward leads out of the workspace, and a listener to \
         this API; call what is behind it directly"
    );
    Problem::new(StatusCode::FORBIDDEN, "port_closed", detail)
}

fn too_many() -> Problem {
    let detail = format!("{MAX_CALLS} requests to ports are under way; try again");
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_port_requests", detail)
}

fn problem(port: NonZeroU16, error: &UpstreamError) -> Problem {
    let detail = format!("port {port} of the workspace: {error}");
    match error {
        UpstreamError::Connect(_) => {
            Problem::new(StatusCode::BAD_GATEWAY, "port_unreachable", detail)
        }
        UpstreamError::Exchange(_) | UpstreamError::Unasked => {
            Problem::new(StatusCode::BAD_GATEWAY, "port_broken", detail)
        }
        UpstreamError::Silent => Problem::new(StatusCode::GATEWAY_TIMEOUT, "port_timeout", detail),
    }
}
