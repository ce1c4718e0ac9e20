//! CONNECT: connect first, answer 200 after, then relay.
//!
//! A refusal is an ordinary HTTP answer; the client never sees a 200 for a tunnel that does not
//! stand. What a client says first in it must not be a TLS handshake
//! for another host.

pub mod client_hello;
pub mod hello;

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use workspace_common::body::{self, Body};
use workspace_common::stream::Stream;

use crate::answer::Terms;
use crate::audit::{Audit, Outcome};
use crate::context::Context;
use crate::host::HostPort;
use crate::policy::{self, Access, Question};
use crate::refusal::Refusal;
use crate::relay::relay;
use crate::strict::Strict;
use crate::tunnel::hello::Greeting;
use crate::upstream::exchange::open_tunnel;

/// A tunnel that stands on the upstream side and waits for the client to have its 200.
#[derive(Debug)]
pub struct Tunnel {
    upstream: TcpStream,
    client: OnUpgrade,
    slot: OwnedSemaphorePermit,
    greeting: Greeting,
}

/// Decides and connects.
///
/// # Errors
/// The refusal to answer with.
pub async fn prepare(
    context: &Context,
    at: &HostPort,
    request: Request<Incoming>,
    audit: &mut Audit,
) -> Result<Tunnel, Refusal> {
    let question = Question { at, access: Access::Tunnel, request: None };
    let permit = policy::decide(&context.policy.current(), &question)?;
    audit.permitted(&permit);
    let slot = context.tunnel_slot()?;
    let upstream = open_tunnel(&context.exchanger, &permit, audit).await?;
    let greeting = Greeting::of(at);
    Ok(Tunnel { upstream, client: hyper::upgrade::on(request), slot, greeting })
}

impl Tunnel {
    /// Answers 200 and relays from then on in a task of its own.
    #[must_use]
    pub fn open(self, context: &Arc<Context>, mut audit: Audit) -> Response<Body> {
        audit.answered(http::StatusCode::OK);
        let task_context = Arc::clone(context);
        context.drain.spawn(async move { self.run(&task_context, audit).await });
        Response::new(body::empty())
    }

    async fn run(self, context: &Context, audit: Audit) {
        let _slot = self.slot;
        let Ok(client) = self.client.await else {
            audit.finish(Outcome::Cancelled);
            return;
        };
        context.sinks.metrics.tunnels_active.inc();
        // Leaving hyper saves its buffers for as long as the tunnel lives. Inside HTTP/2 that is
        // not possible: the stream is one of many on the connection.
        let session = Session { terms: Terms::until_stopped(context), greeting: self.greeting };
        match downcast::<TokioIo<Strict<Stream>>>(client) {
            Ok(parts) => {
                let (stream, held) = parts.io.into_inner().into_parts();
                let early = Bytes::from([parts.read_buf, held].concat());
                session.relay(stream, self.upstream, early, audit).await;
            }
            Err(client) => {
                session.relay(TokioIo::new(client), self.upstream, Bytes::new(), audit).await;
            }
        }
        context.sinks.metrics.tunnels_active.dec();
    }
}

struct Session {
    terms: Terms,
    greeting: Greeting,
}

impl Session {
    async fn relay<C>(mut self, mut client: C, upstream: TcpStream, early: Bytes, audit: Audit)
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let early = match self.first_words(&mut client, &upstream, early).await {
            Ok(Some(early)) => early,
            Ok(None) => return audit.finish(Outcome::Cancelled),
            Err(refusal) => return audit.refused(refusal),
        };
        let counts = audit.counts();
        // Losing the relay closes both sides.
        let outcome = tokio::select! {
            outcome = relay(client, upstream, early, &counts, self.terms.idle) => outcome,
            outcome = self.terms.ending => outcome,
        };
        audit.finish(outcome);
    }

    /// What the client says first, as far as it must be judged.
    async fn first_words<C>(
        &mut self,
        client: &mut C,
        upstream: &TcpStream,
        early: Bytes,
    ) -> Result<Option<Bytes>, Refusal>
    where
        C: AsyncRead + Unpin,
    {
        let reading = self.greeting.read(client, early, upstream.readable());
        tokio::select! {
            read = tokio::time::timeout(self.terms.idle, reading) => {
                read.unwrap_or(Err(Refusal::HelloTimeout))
            }
            _stopped = self.terms.ending.as_mut() => Err(Refusal::Draining),
        }
    }
}
