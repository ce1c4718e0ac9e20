//! Trees in and out of the workspace over HTTP: `POST /v1/sync/push` and `GET /v1/sync/pull`, one
//! round trip each, as tar streams.
//!
//! This file is the HTTP face. [`pack`](pack::pack) and [`unpack`](unpack::unpack) are used by both
//! ends: the command line packs what the agent unpacks, and the reverse. A stream that is whole ends
//! in tar's end marker; one that fails in the middle is cut, and whoever reads it notices.

pub mod archive;
pub mod exclude;
pub mod pack;
pub mod pax;
pub mod unpack;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as HttpBody;
use workspace_common::{
    body::{self, Body},
    problem::Problem,
};

use crate::files::{
    Root, blocking, json_response, method_not_allowed,
    query::Query,
    transfer::{self, Outlet, Transfers},
};
use archive::Report;
use exclude::{Defaults, ExcludeError, Exclusions};
use pack::PackError;
use unpack::Limits;

/// The media type of the archives.
pub const TAR: &str = "application/x-tar";

/// What the sync calls need.
#[derive(Debug, Clone)]
pub struct SyncContext {
    /// The workspace.
    pub root: Arc<Root>,
    /// What one push may hold.
    pub limits: Limits,
    /// Places for pushes and pulls.
    pub transfers: Transfers,
}

impl SyncContext {
    /// A context with the default limits.
    pub fn new(root: Arc<Root>, transfers: Transfers) -> Self {
        Self { root, limits: Limits::default(), transfers }
    }
}

/// Answers a request to `/v1/sync/{call}`. Method and query are those of the request.
///
/// # Errors
/// A problem with a stable code for everything that cannot be done.
pub async fn handle<B>(
    context: &SyncContext,
    call: &str,
    request: Request<B>,
) -> Result<Response<Body>, Problem>
where
    B: HttpBody<Data = Bytes>,
{
    match (call, request.method()) {
        ("push", &Method::POST) => push(context, request).await,
        ("push", _) => Ok(method_not_allowed("POST")),
        ("pull", &Method::GET) => pull(context, request.uri().query()).await,
        ("pull", _) => Ok(method_not_allowed("GET")),
        _ => Err(Problem::no_such_endpoint(request.uri().path())),
    }
}

async fn push<B>(context: &SyncContext, request: Request<B>) -> Result<Response<Body>, Problem>
where
    B: HttpBody<Data = Bytes>,
{
    let mut query = Query::parse(request.uri().query())?;
    let path = query.take_path("path")?;
    query.finish()?;
    expect_plain_tar(request.headers())?;
    let (feed, intake) = transfer::upload();
    let place = context.transfers.begin()?;
    let (root, limits) = (Arc::clone(&context.root), context.limits);
    let unpacking = blocking(move || {
        let target = root.create_subroot(&path)?;
        let unpacked = unpack::unpack(&target, limits, intake, &mut |_| {});
        drop(place);
        unpacked
    });
    // The request is read to its end in any case, or a client that still sends would see a broken
    // pipe instead of the answer.
    let (unpacked, ()) = tokio::join!(unpacking, feed.pump(request.into_body()));
    Ok(report_response(&unpacked??))
}

async fn pull(context: &SyncContext, query: Option<&str>) -> Result<Response<Body>, Problem> {
    let mut query = Query::parse(query)?;
    let path = query.take_path("path")?;
    let patterns = query.take_all("exclude");
    let defaults = query.take_flag("default_excludes", true)?;
    query.finish()?;
    let exclusions = parse_exclusions(&patterns, defaults)?;
    let root = Arc::clone(&context.root);
    let source = blocking(move || root.subroot(&path)).await??;
    let (outlet, body) = transfer::download();
    let place = context.transfers.begin()?;
    tokio::task::spawn_blocking(move || {
        send_tree(&source, &exclusions, outlet);
        drop(place);
    });
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(TAR));
    Ok(response)
}

fn send_tree(source: &Root, exclusions: &Exclusions, mut outlet: Outlet) {
    match pack::pack(source, exclusions, &mut outlet, &mut |_| {}) {
        Ok(_) => {
            if outlet.finish().is_err() {
                tracing::debug!("the client left before the end of a pull");
            }
        }
        Err(error) => {
            if matches!(&error, PackError::File(_)) {
                tracing::warn!(%error, "a pull was cut");
            }
            outlet.fail(error);
        }
    }
}

fn parse_exclusions(patterns: &[Vec<u8>], defaults: bool) -> Result<Exclusions, Problem> {
    let patterns: Vec<_> = patterns.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect();
    let defaults = if defaults { Defaults::Apply } else { Defaults::Ignore };
    Exclusions::new(&patterns, defaults)
        .map_err(|error: ExcludeError| Problem::bad_request("bad_exclude", error.to_string()))
}

fn expect_plain_tar(headers: &HeaderMap) -> Result<(), Problem> {
    let is_tar = headers.get(header::CONTENT_TYPE).is_none_or(|given| given == TAR);
    let is_plain = headers.get(header::CONTENT_ENCODING).is_none_or(|given| given == "identity");
    if is_tar && is_plain {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        "a push takes an uncompressed archive as application/x-tar",
    ))
}

fn report_response(report: &Report) -> Response<Body> {
    let content = serde_json::json!(report);
    json_response(StatusCode::OK, body::json(&content))
}

#[cfg(test)]
mod tests;
