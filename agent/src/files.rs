//! Files of the workspace over HTTP: `GET`, `HEAD`, `PUT` and `DELETE` on `/v1/files/{path}`; beside
//! it [`arrange`] and [`upload`].
//!
//! This file is the HTTP face. [`Root`] is where every operation starts; the modules below know
//! bodies at most, and neither methods nor headers. Invariant: whatever a request names, nothing
//! outside of the root is read, written or removed.

pub mod arrange;
pub mod conditions;
pub mod digest;
pub mod directory;
pub mod error;
mod glob;
mod list;
pub mod metadata;
pub mod path;
mod publish;
pub mod query;
pub mod range;
mod read;
pub mod remove;
pub mod rename;
pub mod resolve;
pub mod root;
mod show;
mod sorted;
pub mod temporary;
pub mod transfer;
pub mod upload;
pub mod walk;
pub mod write;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as HttpBody;
use serde_json::json;
use workspace_common::{
    body::{self, Body},
    problem::Problem,
};

pub use error::{FileError, FileErrorKind};
pub use path::{Name, WorkspacePath};
pub use root::Root;

use conditions::Preconditions;
use digest::ContentDigest;
use path::PathError;
use query::Query;
use remove::Reach;
use transfer::Transfers;
use upload::{
    fields::UploadFields,
    store::{Limits, Uploads},
};
use write::{Durability, WriteOptions, Written};

/// What the file calls need.
#[derive(Debug, Clone)]
pub struct FilesContext {
    /// The workspace.
    pub root: Arc<Root>,
    /// Most bytes that one upload may have.
    pub max_upload_bytes: u64,
    /// Places for uploads and listings.
    pub transfers: Transfers,
    /// Uploads that come in several requests.
    pub uploads: Arc<Uploads>,
}

impl FilesContext {
    /// A context without a limit of size but the disk's; takes up the unfinished uploads in the root.
    pub fn new(root: Arc<Root>, transfers: Transfers, uploads: Limits) -> Self {
        let uploads = Arc::new(Uploads::open(Arc::clone(&root), uploads));
        Self { root, max_upload_bytes: u64::MAX, transfers, uploads }
    }
}

/// Answers a request to `/v1/files/{path}`; `encoded_path` is what follows `/v1/files/`, still
/// percent-encoded. Method and query are those of the request.
///
/// # Errors
/// A problem with a stable code for everything that cannot be done.
pub async fn handle<B>(
    context: &FilesContext,
    encoded_path: &str,
    request: Request<B>,
) -> Result<Response<Body>, Problem>
where
    B: HttpBody<Data = Bytes>,
{
    let mut query = Query::parse(request.uri().query())?;
    let path =
        WorkspacePath::from_url(encoded_path).map_err(|reason| bad_path(encoded_path, reason))?;
    match *request.method() {
        Method::GET | Method::HEAD => show::read(context, path, query, &request).await,
        Method::PUT if encoded_path.ends_with('/') => Err(bad_path(encoded_path, PathError::Empty)),
        Method::PUT => {
            let options = write_options(context, &mut query, request.headers())?;
            query.finish()?;
            let fields = UploadFields::parse(request.headers())?;
            if fields.complete == Some(false) {
                return upload::begin(context, (path, options), fields, request).await;
            }
            put(context, path, options, request).await
        }
        Method::DELETE => {
            let recursive = query.take_flag("recursive", false)?;
            query.finish()?;
            let conditions = Preconditions::parse(request.headers())?;
            let reach = if recursive { Reach::Tree } else { Reach::Entry };
            delete(context, path, reach, conditions).await
        }
        _ => Ok(method_not_allowed("GET, HEAD, PUT, DELETE")),
    }
}

async fn put<B>(
    context: &FilesContext,
    path: WorkspacePath,
    options: WriteOptions,
    request: Request<B>,
) -> Result<Response<Body>, Problem>
where
    B: HttpBody<Data = Bytes>,
{
    let announced = request.body().size_hint().lower();
    if announced > options.max_bytes {
        return Err(FileError::new("write", &path, FileErrorKind::TooLarge).into());
    }
    let (feed, intake) = transfer::upload();
    let root = Arc::clone(&context.root);
    let shown = shown(&path);
    let place = context.transfers.begin()?;
    let writing = blocking(move || {
        let written = write::write(&root, &path, &options, intake);
        drop(place);
        written
    });
    let (written, ()) = tokio::join!(writing, feed.pump(request.into_body()));
    Ok(written_response(&shown, &written??))
}

async fn delete(
    context: &FilesContext,
    path: WorkspacePath,
    reach: Reach,
    conditions: Preconditions,
) -> Result<Response<Body>, Problem> {
    let root = Arc::clone(&context.root);
    blocking(move || remove::remove_if(&root, &path, reach, &conditions)).await??;
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

fn write_options(
    context: &FilesContext,
    query: &mut Query,
    headers: &HeaderMap,
) -> Result<WriteOptions, Problem> {
    let synced = query.take_flag("fsync", false)?;
    Ok(WriteOptions {
        mode: query.take_mode("mode")?,
        durability: if synced { Durability::Synced } else { Durability::Visible },
        max_bytes: context.max_upload_bytes,
        conditions: Preconditions::parse(headers)?,
        expected: ContentDigest::announced(headers)?,
    })
}

fn written_response(path: &str, written: &Written) -> Response<Body> {
    let status = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    let sha256 = written.digest.to_string();
    let content = json!({ "path": path, "size": written.size, "sha256": sha256 });
    let mut response = json_response(status, body::json(&content));
    read::insert(response.headers_mut(), header::ETAG, &written.metadata.etag());
    response
}

/// A path in an answer.
fn shown(path: &WorkspacePath) -> String {
    String::from_utf8_lossy(path.as_bytes()).into_owned()
}

/// Runs blocking work on a thread for it. A panic there is this request's failure alone.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "file work ended abnormally");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the operation failed inside")
    })
}

pub(crate) fn json_response(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

pub(crate) fn method_not_allowed(allowed: &'static str) -> Response<Body> {
    let detail = format!("this path takes {allowed}");
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
    let mut response = problem.response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

fn bad_path(encoded: &str, reason: PathError) -> Problem {
    Problem::bad_request("bad_path", format!("'{encoded}' is not acceptable: {reason}"))
}

#[cfg(test)]
mod tests;
