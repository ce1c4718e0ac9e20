//! Files of the workspace over HTTP: `GET`, `HEAD`, `PUT` and `DELETE` on `/v1/files/{path}`.
//!
//! This file is the HTTP face. [`Root`] is where every operation starts; the modules below know
//! bodies at most, and neither methods nor headers. Invariant: whatever a request names, nothing
//! outside of the root is read, written or removed.

pub mod directory;
pub mod error;
mod list;
pub mod metadata;
pub mod path;
pub mod query;
mod read;
pub mod remove;
pub mod resolve;
pub mod root;
pub mod temporary;
pub mod transfer;
pub mod walk;
pub mod write;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as HttpBody;
use serde_json::json;
use workspace_common::{
    body::{self, Body},
    problem::Problem,
};

pub use error::{FileError, FileErrorKind};
pub use path::{Name, WorkspacePath};
pub use root::Root;

use path::PathError;
use query::Query;
use read::OpenFile;
use remove::Reach;
use root::Opened;
use transfer::Transfers;
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
}

impl FilesContext {
    /// A context without a limit of size but the disk's.
    pub fn new(root: Arc<Root>, transfers: Transfers) -> Self {
        Self { root, max_upload_bytes: u64::MAX, transfers }
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
        Method::GET => {
            query.finish()?;
            get(context, path).await
        }
        Method::HEAD => {
            query.finish()?;
            head(context, path).await
        }
        Method::PUT if encoded_path.ends_with('/') => Err(bad_path(encoded_path, PathError::Empty)),
        Method::PUT => {
            let options = write_options(context, &mut query)?;
            query.finish()?;
            put(context, path, options, request).await
        }
        Method::DELETE => {
            let recursive = query.take_flag("recursive", false)?;
            query.finish()?;
            delete(context, path, if recursive { Reach::Tree } else { Reach::Entry }).await
        }
        _ => Ok(method_not_allowed("GET, HEAD, PUT, DELETE")),
    }
}

async fn get(context: &FilesContext, path: WorkspacePath) -> Result<Response<Body>, Problem> {
    match open(context, &path).await? {
        Loaded::File(file) => Ok(file.answer()),
        Loaded::Directory(directory) => {
            let (outlet, body) = transfer::download();
            let place = context.transfers.begin()?;
            tokio::task::spawn_blocking(move || {
                list::write_listing(&path, directory, outlet);
                drop(place);
            });
            Ok(json_response(StatusCode::OK, body))
        }
    }
}

async fn head(context: &FilesContext, path: WorkspacePath) -> Result<Response<Body>, Problem> {
    match open(context, &path).await? {
        Loaded::File(file) => Ok(file.head()),
        Loaded::Directory(_) => Ok(json_response(StatusCode::OK, body::empty())),
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
    let shown = String::from_utf8_lossy(path.as_bytes()).into_owned();
    let place = context.transfers.begin()?;
    let writing = blocking(move || {
        let written = write::write(&root, &path, options, intake);
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
) -> Result<Response<Body>, Problem> {
    let root = Arc::clone(&context.root);
    blocking(move || remove::remove(&root, &path, reach)).await??;
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

enum Loaded {
    File(OpenFile),
    Directory(directory::Directory),
}

async fn open(context: &FilesContext, path: &WorkspacePath) -> Result<Loaded, Problem> {
    let root = Arc::clone(&context.root);
    let path = path.clone();
    let loaded = blocking(move || match root.open_for_reading(&path)? {
        Opened::File(file, metadata) => OpenFile::load(&path, file, metadata).map(Loaded::File),
        Opened::Directory(directory, _) => Ok(Loaded::Directory(directory)),
    });
    Ok(loaded.await??)
}

fn write_options(context: &FilesContext, query: &mut Query) -> Result<WriteOptions, Problem> {
    let synced = query.take_flag("fsync", false)?;
    Ok(WriteOptions {
        mode: query.take_mode("mode")?,
        durability: if synced { Durability::Synced } else { Durability::Visible },
        max_bytes: context.max_upload_bytes,
    })
}

fn written_response(path: &str, written: &Written) -> Response<Body> {
    let status = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    let content = json!({ "path": path, "size": written.size, "sha256": written.sha256 });
    let mut response = json_response(status, body::json(&content));
    read::insert(response.headers_mut(), header::ETAG, &written.metadata.etag());
    response
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
