//! Absolute-form requests, and the cleaning of requests that the reverse routes share.

use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Uri, Version};
use http_body::Body as _;
use workspace_common::body::Body;
use workspace_common::hop::frame;
use workspace_common::linger::Received;

use crate::answer::{Reply, Terms, exchange};
use crate::audit::Audit;
use crate::classify::{EncodedSlash, Forward, check_path};
use crate::context::Context;
use crate::hop;
use crate::policy::{self, Permit, Question};
use crate::refusal::Refusal;
use crate::stream_body::{self, Ending};
use crate::websocket::Handshake;

/// Decides and forwards one absolute-form request.
///
/// # Errors
/// The refusal to answer with.
pub async fn serve(
    context: &Context,
    target: &Forward,
    request: Request<Received>,
    audit: &mut Audit,
) -> Result<Reply, Refusal> {
    let permit = decide(context, target, &request)?;
    send(context, &permit, target, request, audit).await
}

/// Sends a request that was decided.
///
/// # Errors
/// What went wrong on the way.
pub async fn send(
    context: &Context,
    permit: &Permit,
    target: &Forward,
    mut request: Request<Received>,
    audit: &mut Audit,
) -> Result<Reply, Refusal> {
    audit.permitted(permit);
    context.admit(permit)?;
    let path = target.origin_form.parse().map_err(|_ignored| Refusal::BadPath)?;
    let handshake = Handshake::take(&mut request);
    let upload = Upload { audit, limit: context.limits.max_body, until: None };
    let mut request = outgoing(request, permit, path, upload)?;
    if let Some(handshake) = &handshake {
        handshake.ask(request.headers_mut());
    }
    let terms = Terms::until_stopped(context);
    exchange(context, permit, (request, handshake), terms, audit).await
}

fn decide(
    context: &Context,
    target: &Forward,
    request: &Request<Received>,
) -> Result<Permit, Refusal> {
    let path = target.path();
    let question = Question::request((target.scheme, &target.at), request.method(), path);
    let permit = policy::decide(&context.policy.current(), &question)?;
    if permit.judged_path() {
        // A rule that allows only some paths must read the path as the origin will.
        check_path(path, EncodedSlash::Refused)?;
    }
    Ok(permit)
}

/// How a request body is watched on its way up.
pub struct Upload<'a> {
    /// Whose bytes it counts as.
    pub audit: &'a Audit,
    /// The most bytes it may have.
    pub limit: Option<u64>,
    /// What ends it early.
    pub until: Option<Ending>,
}

impl std::fmt::Debug for Upload<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// The request as the origin is to see it: origin-form, HTTP/1.1, `Host` of the permitted
/// destination, nothing of the client's connection.
///
/// # Errors
/// [`Refusal::BodyTooLarge`] when the announced length is over the limit.
pub fn outgoing(
    request: Request<Received>,
    permit: &Permit,
    path: PathAndQuery,
    upload: Upload<'_>,
) -> Result<Request<Body>, Refusal> {
    let (mut head, body) = request.into_parts();
    if upload.limit.is_some_and(|limit| body.size_hint().lower() > limit) {
        return Err(Refusal::BodyTooLarge);
    }
    hop::clean_request(&mut head.headers);
    let authority = permit.at().authority(permit.scheme());
    let host = HeaderValue::try_from(authority).map_err(|_ignored| Refusal::BadHost)?;
    head.headers.insert(HOST, host);
    frame(&mut head.headers, &body);
    head.uri = Uri::from(path);
    head.version = Version::HTTP_11;
    head.extensions.clear();
    let body = stream_body::upload(body, upload.audit.counts().up, upload.limit, upload.until);
    Ok(Request::from_parts(head, body))
}
