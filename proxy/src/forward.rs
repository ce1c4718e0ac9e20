//! Absolute-form requests, and what they share with the reverse routes: a cleaned request out, a
//! cleaned answer back, bodies streaming both ways.

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use workspace_common::body::Body;

use crate::audit::{Audit, Outcome};
use crate::classify::{EncodedSlash, Forward, check_path};
use crate::context::Context;
use crate::hop;
use crate::policy::{self, Access, Permit, Question};
use crate::refusal::Refusal;
use crate::stream_body::{self, Download, Ending};
use crate::upstream::exchange::Reuse;
use crate::upstream::pool::Lease;

/// An answer whose head has arrived.
pub struct Answer {
    response: Response<Incoming>,
    lease: Lease,
    ending: Ending,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("status", &self.response.status()).finish_non_exhaustive()
    }
}

/// Decides and forwards one absolute-form request.
///
/// # Errors
/// The refusal to answer with.
pub async fn serve(
    context: &Context,
    target: &Forward,
    request: Request<Incoming>,
    audit: &mut Audit,
) -> Result<Answer, Refusal> {
    let (head, body) = request.into_parts();
    let path = target.path();
    let question = Question {
        at: &target.at,
        access: Access::Forward(target.scheme),
        request: Some((&head.method, path)),
    };
    let permit = policy::decide(&context.policy, &question)?;
    if permit.judged_path() {
        // A rule that allows only some paths must read the path as the origin will.
        check_path(path, EncodedSlash::Refused)?;
    }
    audit.permitted(&permit);
    let target = target.origin_form.parse::<PathAndQuery>().map_err(|_ignored| Refusal::BadPath)?;
    let request = outgoing(head, body, &permit, target, audit)?;
    let until_stopped = until_stopped(context);
    exchange(context, &permit, request, until_stopped, audit).await
}

/// The request as the origin is to see it: origin-form, HTTP/1.1, `Host` of the permitted
/// destination, nothing of the client's connection.
///
/// # Errors
/// [`Refusal::BadHost`] when the destination cannot stand in a header, which no parsed host does.
pub fn outgoing(
    mut head: Parts,
    body: Incoming,
    permit: &Permit,
    target: PathAndQuery,
    audit: &Audit,
) -> Result<Request<Body>, Refusal> {
    hop::clean_request(&mut head.headers);
    let authority = permit.at().authority(permit.scheme());
    let host = HeaderValue::try_from(authority).map_err(|_ignored| Refusal::BadHost)?;
    head.headers.insert(HOST, host);
    frame(&mut head.headers, &body);
    head.uri = Uri::from(target);
    head.version = Version::HTTP_11;
    head.extensions.clear();
    let body = stream_body::upload(body, audit.counts().up);
    Ok(Request::from_parts(head, body))
}

/// hyper sends no body with GET unless told so; a body of unknown length is sent in chunks whatever
/// the method.
fn frame(headers: &mut HeaderMap, body: &Incoming) {
    if !body.is_end_stream() && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Resolves when the process cuts what is left.
#[must_use]
pub fn until_stopped(context: &Context) -> Ending {
    let drain = context.drain.clone();
    Box::pin(async move {
        drain.cut().await;
        Outcome::Stopped
    })
}

/// Sends a request and waits for the head of the answer.
///
/// # Errors
/// What went wrong on the way, or [`Refusal::BadUpstream`] for an upgrade that nobody asked for.
pub async fn exchange(
    context: &Context,
    permit: &Permit,
    request: Request<Body>,
    mut ending: Ending,
    audit: &mut Audit,
) -> Result<Answer, Refusal> {
    let sending = context.exchanger.send(permit, request, Reuse::Pooled, audit);
    // Losing the exchange closes its connection, which is what the end of a rule asks for.
    let (mut response, lease) = tokio::select! {
        sent = sending => sent?,
        outcome = ending.as_mut() => return Err(refusal_of(outcome)),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refusal::BadUpstream);
    }
    hop::clean_response(response.headers_mut());
    Ok(Answer { response, lease, ending })
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
        let kept = Some((context.exchanger.pool().clone(), self.lease));
        let idle = context.limits.idle_timeout;
        let body = Download::new(body, audit, kept, idle, self.ending).boxed_unsync();
        Response::from_parts(head, body)
    }
}
