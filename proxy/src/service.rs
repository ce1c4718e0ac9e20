//! The life of a request: an outer function that cannot fail and makes every answer, and an inner
//! one whose steps are the steps of a decision.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use workspace_common::body::Body;
use workspace_common::serve::Malformed;
use workspace_common::stream::Peer;

use crate::answer::Reply;
use crate::audit::Audit;
use crate::aws;
use crate::classify::{Target, classify};
use crate::context::Context;
use crate::forward;
use crate::refusal::Refusal;
use crate::reverse;
use crate::tunnel::{self, Tunnel};

/// What was achieved before the client gets its answer.
enum Served {
    Tunnel(Tunnel),
    Reply(Box<Reply>),
}

/// A refusal and the form in which the client understands it.
struct Refused {
    refusal: Refusal,
    render: fn(Refusal) -> Response<Body>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, render: Refusal::response }
    }
}

/// Serves one request of a workspace. Exactly one audit line is left, whatever happens.
pub async fn handle(
    context: Arc<Context>,
    request: Request<Incoming>,
    peer: Peer,
) -> Response<Body> {
    let mut audit = Audit::begin(&context.sinks, &peer, request.method().as_str());
    match serve(&context, request, &mut audit).await {
        Ok(Served::Tunnel(tunnel)) => tunnel.open(&context, audit),
        Ok(Served::Reply(reply)) => match *reply {
            Reply::Answer(answer) => answer.relaying(&context, audit),
            Reply::Socket(socket) => socket.open(&context, audit),
        },
        Err(refused) => {
            audit.refused(refused.refusal);
            (refused.render)(refused.refusal)
        }
    }
}

/// Leaves the audit line of what was refused before it was a request.
pub fn malformed(context: &Context, peer: Peer, what: Malformed) {
    let refusal = match what {
        Malformed::NoHttp => Refusal::BadRequest,
        Malformed::TooLarge => Refusal::HeadTooLarge,
    };
    // A method is part of what could not be read.
    Audit::begin(&context.sinks, &peer, "").refused(refusal);
}

async fn serve(
    context: &Context,
    request: Request<Incoming>,
    audit: &mut Audit,
) -> Result<Served, Refused> {
    let (head, body) = request.into_parts();
    let target = classify(&head, context.routes)?;
    let request = Request::from_parts(head, body);
    audit.target(&target);
    if context.drain.is_draining() {
        return Err(Refusal::Draining.into());
    }
    let reply = match target {
        Target::Connect(at) => {
            return Ok(Served::Tunnel(tunnel::prepare(context, &at, request, audit).await?));
        }
        Target::Forward(target) => forward::serve(context, &target, request, audit).await?,
        Target::Mcp(path) => reverse::mcp(context, &path, request, audit).await?,
        Target::Bedrock(path) => reverse::bedrock(context, &path, request, audit)
            .await
            .map_err(|refusal| Refused { refusal, render: aws::denial::response })?,
    };
    Ok(Served::Reply(Box::new(reply)))
}
