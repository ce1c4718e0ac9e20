//! The life of a request: an outer function that cannot fail and makes every answer, and an inner
//! one whose steps are the steps of a decision.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use workspace_common::body::Body;
use workspace_common::stream::Peer;

use crate::audit::Audit;
use crate::classify::{Target, classify};
use crate::context::Context;
use crate::forward::{self, Answer};
use crate::refusal::Refusal;
use crate::tunnel::{self, Tunnel};

/// What was achieved before the client gets its answer.
enum Served {
    Tunnel(Tunnel),
    Answer(Answer),
}

/// Serves one request of a workspace. Exactly one audit line is left, whatever happens.
pub async fn handle(
    context: Arc<Context>,
    request: Request<Incoming>,
    peer: Peer,
) -> Response<Body> {
    let mut audit = Audit::begin(&context.sinks, &peer, request.method());
    match serve(&context, request, &mut audit).await {
        Ok(Served::Tunnel(tunnel)) => tunnel.open(&context, audit),
        Ok(Served::Answer(answer)) => answer.relaying(&context, audit),
        Err(refusal) => {
            audit.refused(refusal);
            refusal.response()
        }
    }
}

async fn serve(
    context: &Context,
    request: Request<Incoming>,
    audit: &mut Audit,
) -> Result<Served, Refusal> {
    let (head, body) = request.into_parts();
    let target = classify(&head, context.routes)?;
    let request = Request::from_parts(head, body);
    audit.target(&target);
    match target {
        Target::Connect(at) => {
            tunnel::prepare(context, &at, request, audit).await.map(Served::Tunnel)
        }
        Target::Forward(forward) => {
            forward::serve(context, &forward, request, audit).await.map(Served::Answer)
        }
        Target::Mcp(_) | Target::Bedrock(_) => Err(Refusal::UnknownRoute),
    }
}
