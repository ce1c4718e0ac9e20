//! From a request that is ready to leave to an answer that streams back. Shared by forward requests
//! and reverse routes.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use workspace_common::body::Body;

use crate::audit::{Audit, Outcome};
use crate::context::Context;
use crate::hop;
use crate::policy::Permit;
use crate::refusal::Refusal;
use crate::stream_body::{Download, Ending};
use crate::upstream::exchange::{Manner, Reuse};
use crate::upstream::pool::Lease;
use crate::websocket::{Handshake, Socket};

/// How long an exchange may go on.
pub struct Terms {
    /// What ends it from outside: the stop of the process, the end of a rule.
    pub ending: Ending,
    /// How long it may be silent.
    pub idle: Duration,
}

impl Terms {
    /// Until the process cuts what is left.
    #[must_use]
    pub fn until_stopped(context: &Context) -> Self {
        let drain = context.drain.clone();
        let ending = Box::pin(async move {
            drain.cut().await;
            Outcome::Stopped
        });
        Self { ending, idle: context.limits.idle_timeout }
    }
}

impl std::fmt::Debug for Terms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terms").field("idle", &self.idle).finish_non_exhaustive()
    }
}

/// What an origin answered.
#[derive(Debug)]
pub enum Reply {
    /// A response whose head has arrived.
    Answer(Answer),
    /// The agreement to speak WebSocket.
    Socket(Socket),
}

impl Reply {
    /// The headers that the client will get.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        match self {
            Self::Answer(answer) => answer.response.headers_mut(),
            Self::Socket(socket) => socket.headers_mut(),
        }
    }
}

/// A response whose head has arrived.
#[derive(Debug)]
pub struct Answer {
    /// The response, cleaned.
    pub response: Response<Incoming>,
    lease: Lease,
    terms: Terms,
}

/// Sends a request and waits for the head of the answer.
///
/// # Errors
/// What went wrong on the way, or [`Refusal::BadUpstream`] for an upgrade that nobody asked for.
pub async fn exchange(
    context: &Context,
    permit: &Permit,
    outgoing: (Request<Body>, Option<Handshake>),
    mut terms: Terms,
    audit: &mut Audit,
) -> Result<Reply, Refusal> {
    let (request, handshake) = outgoing;
    let reuse = if handshake.is_some() { Reuse::Apart } else { Reuse::Pooled };
    let manner = Manner { reuse, idle: terms.idle };
    let sending = context.exchanger.send(permit, request, manner, audit);
    // Losing the exchange closes its connection, which is what the end of a rule asks for.
    let (mut response, lease) = tokio::select! {
        sent = sending => sent.map_err(|refusal| unless_cut(context, refusal))?,
        outcome = terms.ending.as_mut() => return Err(refusal_of(outcome)),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let handshake = handshake.ok_or(Refusal::BadUpstream)?;
        return handshake.accept(response, terms).map(Reply::Socket);
    }
    if !hop::is_plainly_coded(response.headers()) {
        return Err(Refusal::BadUpstream);
    }
    hop::clean_response(response.headers_mut());
    Ok(Reply::Answer(Answer { response, lease, terms }))
}

/// The cut ends both connections, too, and that may be seen before the cut itself.
fn unless_cut(context: &Context, refusal: Refusal) -> Refusal {
    let broke = matches!(refusal, Refusal::BadUpstream | Refusal::BadBody);
    if broke && context.drain.is_cut() { Refusal::Draining } else { refusal }
}

const fn refusal_of(outcome: Outcome) -> Refusal {
    match outcome {
        Outcome::Revoked => Refusal::RuleExpired,
        Outcome::Stopped => Refusal::Draining,
        Outcome::Completed | Outcome::Cancelled | Outcome::Idle | Outcome::UpstreamBroke => {
            Refusal::BadUpstream
        }
    }
}

impl Answer {
    /// The response for the client. The audit record ends with its body.
    #[must_use]
    pub fn relaying(self, context: &Context, mut audit: Audit) -> Response<Body> {
        audit.answered(self.response.status());
        let (mut head, body) = self.response.into_parts();
        head.version = Version::HTTP_11;
        head.extensions.clear();
        let kept = (self.lease, Arc::clone(context.exchanger.pool()));
        let body = Download::new(body, audit, kept, self.terms.ending).boxed_unsync();
        Response::from_parts(head, body)
    }
}
