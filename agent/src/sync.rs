//! Trees in and out of the workspace over HTTP, beneath `/v1/sync/`: whole or only what differs, as tar
//! streams.
//!
//! This file is the HTTP face. [`manifest`] and [`diff`](mod@diff) say what differs,
//! [`pack`](pack::pack) and [`unpack`](unpack::unpack) move it; all of it is used by both ends: the
//! command line packs what the agent unpacks, and the reverse. A stream that is whole ends in tar's
//! end marker, or in the end line of a manifest; one that fails in the middle is cut, and whoever
//! reads it notices.

pub mod archive;
pub mod changes;
pub mod coding;
pub mod compare;
pub mod diff;
pub mod exclude;
pub mod manifest;
pub mod pack;
pub mod pax;
mod pull;
mod push;
pub mod removal;
pub mod selection;
pub mod unpack;
mod watch;

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body as HttpBody;
use workspace_common::{
    body::Body,
    drain::{self, Drain},
    problem::Problem,
};

use crate::files::{Root, method_not_allowed, transfer::Transfers};
use changes::cursors::Cursors;
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
    /// The moments that changes can be told since.
    pub cursors: Arc<Cursors>,
    /// The end of the agent's calls, which ends a watch.
    pub end: Drain,
}

impl SyncContext {
    /// A context with the default limits, of an agent that has no name and never stops.
    pub fn new(root: Arc<Root>, transfers: Transfers) -> Self {
        let (_trigger, end) = drain::channel();
        let cursors = Arc::new(Cursors::new(&format!("{:08x}", fastrand::u32(..))));
        Self { root, limits: Limits::default(), transfers, cursors, end }
    }

    /// The same in a life of the agent that is named so and stops.
    #[must_use]
    pub fn of_this_life(self, boot: &str, end: Drain) -> Self {
        Self { cursors: Arc::new(Cursors::new(boot)), end, ..self }
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
    B: HttpBody<Data = Bytes> + Send + 'static,
{
    match (call, request.method()) {
        ("push", &Method::POST) => push::push(context, request).await,
        ("push", _) => Ok(method_not_allowed("POST")),
        ("pull", &Method::GET) => pull::all(context, &request).await,
        ("pull", &Method::POST) => pull::differing(context, request).await,
        ("pull", _) => Ok(method_not_allowed("GET, POST")),
        ("changes", &Method::GET) => changes::since(context, request.uri().query()).await,
        ("changes", _) => Ok(method_not_allowed("GET")),
        ("watch", &Method::GET) => watch::watch(context, request.uri().query()).await,
        ("watch", _) => Ok(method_not_allowed("GET")),
        ("manifest", &Method::GET) => compare::manifest(context, request.uri().query()).await,
        ("manifest", _) => Ok(method_not_allowed("GET")),
        ("diff", &Method::POST) => compare::diff(context, request).await,
        ("diff", _) => Ok(method_not_allowed("POST")),
        _ => Err(Problem::no_such_endpoint(request.uri().path())),
    }
}

#[cfg(test)]
mod tests;
