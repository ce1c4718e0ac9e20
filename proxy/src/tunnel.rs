//! CONNECT: connect first, answer 200 after, then relay.
//!
//! A refusal is an ordinary HTTP answer; the client never sees a 200 for a tunnel that does not
//! stand. What a client says in it must be a TLS handshake for the permitted host, or, on port 80,
//! HTTP for it, unless the rule says otherwise.

pub mod client_hello;
pub mod hello;

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use workspace_common::body::{self, Body};
use workspace_common::linger::{Lingering, Received};
use workspace_common::serve::Welcome;
use workspace_common::stream::{Peer, Stream};

use crate::answer::Terms;
use crate::audit::{Audit, Outcome};
use crate::context::Context;
use crate::host::HostPort;
use crate::policy::tunnel::{Content, is_allowed};
use crate::policy::{self, HTTP_PORT, Permit, Question};
use crate::refusal::Refusal;
use crate::relay::relay;
use crate::service::{self, Inside};
use crate::strict::Strict;
use crate::tunnel::client_hello::ClientHello;
use crate::upstream::channel::Channel;
use crate::upstream::exchange::open_tunnel;

/// A tunnel that stands on the upstream side and waits for the client to have its 200.
#[derive(Debug)]
pub struct Tunnel {
    upstream: Channel,
    client: OnUpgrade,
    slot: OwnedSemaphorePermit,
    permit: Permit,
    peer: Peer,
}

/// Decides and connects.
///
/// # Errors
/// The refusal to answer with.
pub async fn prepare(
    context: &Context,
    at: &HostPort,
    (request, peer): (Request<Received>, Peer),
    audit: &mut Audit,
) -> Result<Tunnel, Refusal> {
    let question = Question::tunnel(at).beside_route(context.route_to(at).is_some());
    let permit = policy::decide(&context.policy.current(), &question)?;
    audit.permitted(&permit);
    context.admit(&permit)?;
    let slot = context.tunnel_slot()?;
    let upstream = open_tunnel(&context.exchanger, &permit, audit).await?;
    Ok(Tunnel { upstream, client: hyper::upgrade::on(request), slot, permit, peer })
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

    async fn run(self, context: &Arc<Context>, audit: Audit) {
        let _slot = self.slot;
        let Ok(client) = self.client.await else {
            audit.finish(Outcome::Cancelled);
            return;
        };
        let _counted = Counted::new(&context.sinks.metrics.tunnels_active);
        // Leaving hyper saves its buffers for as long as the tunnel lives. Inside HTTP/2 that is
        // not possible: the stream is one of many on the connection.
        let session = Session {
            context: Arc::clone(context),
            upstream: self.upstream,
            permit: self.permit,
            peer: self.peer,
        };
        match downcast::<TokioIo<Lingering<Strict<Stream>>>>(client) {
            Ok(parts) => {
                let (stream, held) = parts.io.into_inner().into_inner().into_parts();
                let early = Bytes::from([parts.read_buf, held].concat());
                session.serve(stream, early, audit).await;
            }
            Err(client) => session.serve(TokioIo::new(client), Bytes::new(), audit).await,
        }
    }
}

/// Counts an open tunnel for as long as it lives, however it ends.
struct Counted(IntGauge);

impl Counted {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

struct Session {
    context: Arc<Context>,
    upstream: Channel,
    permit: Permit,
    peer: Peer,
}

impl Session {
    async fn serve<C>(self, client: C, early: Bytes, audit: Audit)
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match (self.permit.tunnel().content, self.permit.at().port) {
            (Content::Anything, _) => {
                let terms = Terms::until_stopped(&self.context);
                carry(client, self.upstream, early, terms, audit).await;
            }
            // Boxed: most tunnels are not of this kind, and all have room for what this needs.
            (Content::Checked, HTTP_PORT) => Box::pin(self.http(client, early, audit)).await,
            (Content::Checked, _) => self.tls(client, early, audit).await,
        }
    }

    async fn tls<C>(self, mut client: C, early: Bytes, mut audit: Audit)
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let mut terms = Terms::until_stopped(&self.context);
        let reading = hello::read(&mut client, early, self.context.limits.hello_timeout);
        let heard = tokio::select! {
            heard = reading => heard,
            _stopped = terms.ending.as_mut() => Err(Refusal::Draining),
        };
        let (early, hello) = match heard {
            Ok(Some(heard)) => heard,
            Ok(None) => return audit.finish(Outcome::Cancelled),
            Err(refusal) => return audit.refused(refusal),
        };
        audit.hello(&hello);
        if let Err(refusal) = self.judge(&hello) {
            return audit.refused(refusal);
        }
        let upstream = self.upstream;
        // Names and rules are needed no longer, and the tunnel may live for days.
        drop((self.context, self.permit));
        carry(client, upstream, early, terms, audit).await;
    }

    fn judge(&self, hello: &ClientHello) -> Result<(), Refusal> {
        let at = self.permit.at();
        let policy = self.context.policy.current();
        hello::judge(hello, &at.host, self.permit.tunnel(), |named| {
            let there = HostPort { host: named.clone(), port: at.port };
            self.context.route_to(&there).is_none() && is_allowed(&policy, &there)
        })
    }

    async fn http<C>(self, client: C, early: Bytes, audit: Audit)
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if let Err(refusal) = self.context.exchanger.adopt(&self.permit, self.upstream).await {
            return audit.refused(refusal);
        }
        let limits = service::head_limits(&self.context, Welcome::Served);
        let client = Strict::resuming(client, early, limits);
        let inside = Inside { client, permit: Arc::new(self.permit), peer: self.peer };
        service::inside(self.context, inside).await;
        audit.finish(Outcome::Completed);
    }
}

/// Relays until both sides have ended, or one is made to.
async fn carry<C>(client: C, upstream: Channel, early: Bytes, terms: Terms, audit: Audit)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let counts = audit.counts();
    // Losing the relay closes both sides.
    let outcome = tokio::select! {
        outcome = relay(client, upstream, early, &counts, terms.idle) => outcome,
        outcome = terms.ending => outcome,
    };
    audit.finish(outcome);
}
