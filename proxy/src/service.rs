//! The life of a request: an outer function that cannot fail and makes every answer, and an inner
//! one whose steps are the steps of a decision.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite};
use workspace_common::body::Body;
use workspace_common::linger::Received;
use workspace_common::serve::{HeadLimits, Malformed, Welcome, serve_connection};
use workspace_common::stream::{Peer, Stream};

use crate::answer::Reply;
use crate::audit::Audit;
use crate::aws;
use crate::classify::{Target, classify, classify_inside};
use crate::context::Context;
use crate::forward;
use crate::host::HostPort;
use crate::policy::Permit;
use crate::refusal::Refusal;
use crate::reverse;
use crate::strict::Strict;
use crate::tunnel::{self, Tunnel};

/// What was achieved before the client gets its answer.
enum Served {
    Tunnel(Tunnel),
    Reply(Box<Reply>),
}

/// A refusal and the form in which the client understands it.
struct Refused {
    refusal: Refusal,
    form: Form,
}

enum Form {
    /// A problem document.
    Problem,
    /// The same, which names the path of the route to use.
    Route(String),
    /// What AWS SDKs read.
    Aws,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, form: Form::Problem }
    }
}

impl Refused {
    fn response(&self) -> Response<Body> {
        match &self.form {
            Form::Problem => self.refusal.response(),
            Form::Route(path) => {
                let detail = self.refusal.detail();
                self.refusal.response_saying(&format!("{detail} It is {path}."))
            }
            Form::Aws => aws::denial::response(self.refusal),
        }
    }
}

/// Serves one connection of a workspace until it ends. Says what its last bytes were, where they
/// were no request.
pub async fn connection(
    context: Arc<Context>,
    (stream, peer): (Stream, Peer),
    welcome: Welcome,
) -> Option<Malformed> {
    let _open = OpenConnection::of(&context);
    let limits = head_limits(&context, welcome);
    let stream = Strict::new(stream, limits);
    let (verdict, drain) = (stream.verdict(), context.drain.clone());
    let handler = move |request: Request<Received>| {
        let (context, verdict) = (Arc::clone(&context), verdict.clone());
        async move {
            match (verdict.of(request.method()), welcome) {
                (Some((refusal, method)), _) => refuse_head(&context, peer, refusal, method),
                // Boxed: the library keeps room for this as long as the connection lives.
                (None, Welcome::Served) => Box::pin(handle(context, request, peer)).await,
                (None, Welcome::TurnedAway) => {
                    let method = request.method().as_str();
                    refuse_head(&context, peer, Refusal::TooManyConnections, method)
                }
            }
        }
    };
    serve_connection(stream, behind_strict(limits), drain, handler).await
}

/// How long a connection that is turned away may take to ask for something.
const TURNED_AWAY: Duration = Duration::from_secs(5);

/// What a request head may take.
#[must_use]
pub fn head_limits(context: &Context, welcome: Welcome) -> HeadLimits {
    let limits = context.limits;
    let timeout = match welcome {
        Welcome::Served => limits.header_timeout,
        Welcome::TurnedAway => limits.header_timeout.min(TURNED_AWAY),
    };
    HeadLimits { timeout, size: limits.max_head }
}

/// [`Strict`] keeps the time of a head from its first byte on, and answers. The library keeps that of
/// an idle connection, and closes: it must not come first, when the byte has come late.
const fn behind_strict(limits: HeadLimits) -> HeadLimits {
    HeadLimits { timeout: limits.timeout.saturating_mul(2), ..limits }
}

/// Counts an open connection of a workspace, for as long as it is not a tunnel.
struct OpenConnection(IntGauge);

impl OpenConnection {
    fn of(context: &Context) -> Self {
        let gauge = context.sinks.metrics.connections_active.clone();
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Serves what is said in a tunnel that carries HTTP in clear: request by request, each checked, and
/// each with an audit line of its own.
pub async fn inside<C>(context: Arc<Context>, inside: Inside<C>)
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Inside { client, permit, peer } = inside;
    let (verdict, drain) = (client.verdict(), context.drain.clone());
    let limits = behind_strict(head_limits(&context, Welcome::Served));
    let handler = move |request: Request<Received>| {
        let (context, verdict, permit) =
            (Arc::clone(&context), verdict.clone(), Arc::clone(&permit));
        async move {
            if let Some((refusal, method)) = verdict.of(request.method()) {
                return refuse_head(&context, peer, refusal, method);
            }
            let mut audit = Audit::begin(&context.sinks, &peer, request.method().as_str());
            let serving = forward_inside(&context, &permit, request, &mut audit);
            let served = Box::pin(serving).await.map(|reply| Served::Reply(Box::new(reply)));
            // Whoever asks for another host in here is not to be asked twice.
            let refused = served.is_err();
            let response = conclude(&context, served.map_err(Refused::from), audit);
            if refused { closing(response) } else { response }
        }
    };
    // What was no request has been refused by `Strict`; the rest is a connection that broke.
    let _malformed = serve_connection(client, limits, drain, handler).await;
}

/// The inside of a tunnel.
#[derive(Debug)]
pub struct Inside<C> {
    /// The client's end.
    pub client: Strict<C>,
    /// What the tunnel was permitted for.
    pub permit: Arc<Permit>,
    /// Who asked.
    pub peer: Peer,
}

async fn forward_inside(
    context: &Context,
    permit: &Permit,
    request: Request<Received>,
    audit: &mut Audit,
) -> Result<Reply, Refusal> {
    audit.check_room()?;
    let (head, body) = request.into_parts();
    let target = classify_inside(&head, permit.at())?;
    audit.target(&Target::Forward(target.clone()));
    forward::send(context, permit, &target, Request::from_parts(head, body), audit).await
}

/// Answers a head that was refused before it was a request. Nothing can be read after it.
fn refuse_head(context: &Context, peer: Peer, refusal: Refusal, method: &str) -> Response<Body> {
    Audit::begin(&context.sinks, &peer, method).refused(refusal);
    closing(refusal.response())
}

/// The last response of its connection.
fn closing(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Serves one request of a workspace. Exactly one audit line is left, whatever happens.
async fn handle(context: Arc<Context>, request: Request<Received>, peer: Peer) -> Response<Body> {
    let asks_for_more = may_become_opaque(&request);
    let response = answer(&context, request, peer).await;
    let granted = response.status() == StatusCode::SWITCHING_PROTOCOLS
        || (response.status().is_success() && asks_for_more == Some(Method::CONNECT));
    if asks_for_more.is_some() && !granted { closing(response) } else { response }
}

/// The method of a request after which [`Strict`] looks at nothing any more. Inside HTTP/2 it never
/// looks, and a refused stream says nothing about the others.
fn may_become_opaque(request: &Request<Received>) -> Option<Method> {
    let websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    let asks = request.method() == Method::CONNECT
        || request.headers().get_all(UPGRADE).iter().any(websocket);
    (asks && request.version() < Version::HTTP_2).then(|| request.method().clone())
}

async fn answer(context: &Arc<Context>, request: Request<Received>, peer: Peer) -> Response<Body> {
    let mut audit = Audit::begin(&context.sinks, &peer, request.method().as_str());
    let served = serve(context, request, peer, &mut audit).await;
    conclude(context, served, audit)
}

fn conclude(
    context: &Arc<Context>,
    served: Result<Served, Refused>,
    audit: Audit,
) -> Response<Body> {
    match served {
        Ok(Served::Tunnel(tunnel)) => tunnel.open(context, audit),
        Ok(Served::Reply(reply)) => match *reply {
            Reply::Answer(answer) => answer.relaying(context, audit),
            Reply::Socket(socket) => socket.open(context, audit),
        },
        Err(refused) => {
            audit.refused(refused.refusal);
            refused.response()
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
    request: Request<Received>,
    peer: Peer,
    audit: &mut Audit,
) -> Result<Served, Refused> {
    let (head, body) = request.into_parts();
    let target = classify(&head, context.routes)?;
    let request = Request::from_parts(head, body);
    audit.target(&target);
    audit.check_room()?;
    if context.drain.is_draining() {
        return Err(Refusal::Draining.into());
    }
    let reply = match target {
        Target::Connect(at) => {
            let tunnel = tunnel::prepare(context, &at, (request, peer), audit).await;
            return tunnel
                .map(Served::Tunnel)
                .map_err(|refusal| tunnel_refused(context, &at, refusal));
        }
        Target::Forward(target) => forward::serve(context, &target, request, audit).await?,
        Target::Mcp(path) => reverse::mcp(context, &path, request, audit).await?,
        Target::Bedrock(path) => reverse::bedrock(context, &path, request, audit)
            .await
            .map_err(|refusal| Refused { refusal, form: Form::Aws })?,
    };
    Ok(Served::Reply(Box::new(reply)))
}

/// The route that would serve is the client's own, so its name gives nothing away.
fn tunnel_refused(context: &Context, at: &HostPort, refusal: Refusal) -> Refused {
    let route = if refusal == Refusal::UseRoute { context.route_to(at) } else { None };
    Refused { refusal, form: route.map_or(Form::Problem, Form::Route) }
}
