//! Resumable uploads: a file that comes in several requests, because it is large and connections
//! break. The header fields are those of draft-ietf-httpbis-resumable-upload.
//!
//! `PUT /v1/files/{path}` with `Upload-Complete: ?0` begins one and names it in `Location`. There
//! `PATCH` brings the next part, `HEAD` tells how much has arrived, `DELETE` gives up. The part with
//! `Upload-Complete: ?1` is the last; its answer is that of a plain `PUT`. The draft's interim
//! answers (104) are not sent: the name is there before the content, which they are for.

mod append;
mod error;
pub mod fields;
mod record;
mod shelf;
pub mod store;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as HttpBody;
use serde_json::json;
use workspace_common::{
    body::{self, Body},
    problem::Problem,
};

use super::{
    FileError, FileErrorKind, FilesContext, blocking, json_response, method_not_allowed,
    path::WorkspacePath,
    publish::{look_ahead, what_stands_there},
    query::Query,
    read::insert,
    root::Missing,
    transfer,
    write::{WriteOptions, Written},
    written_response,
};
use append::{Part, append};
use error::{UploadError, refusal};
use fields::{COMPLETE, LENGTH, LIMIT, OFFSET, PARTIAL_UPLOAD, UploadFields, boolean_value};
use record::{Record, UploadId};
use store::Uploads;

/// Answers a `PUT` with `Upload-Complete: ?0`: makes the upload, and takes what the request brings.
pub(super) async fn begin<B>(
    context: &FilesContext,
    (path, options): (WorkspacePath, WriteOptions),
    fields: UploadFields,
    request: Request<B>,
) -> Result<Response<Body>, Problem>
where
    B: HttpBody<Data = Bytes>,
{
    if fields.offset.is_some_and(|offset| offset != 0) {
        let detail = "an upload begins at Upload-Offset 0; the rest goes to its Location";
        return Err(Problem::bad_request("bad_upload_field", detail));
    }
    let shown = super::shown(&path);
    let uploads = Arc::clone(&context.uploads);
    let record = Record { path, options, length: fields.length };
    let id = blocking(move || create(&uploads, record)).await??;
    let part = Part { offset: 0, length: fields.length, complete: false };
    let offset = match send(context, id, part, request).await {
        Ok(sent) => sent.size,
        Err(refused) => {
            // Nobody has been told the name, so nobody can go on.
            cancel(context, id).await?;
            return Ok(refusal(refused?));
        }
    };
    let answer = json!({ "upload": id.to_string(), "path": shown, "offset": offset });
    let mut response = json_response(StatusCode::CREATED, body::json(&answer));
    let headers = response.headers_mut();
    insert(headers, header::LOCATION, &format!("/v1/uploads/{id}"));
    describe(headers, &context.uploads, offset, false);
    Ok(response)
}

/// Looks whether the write will be possible at all before anything of it is sent.
fn create(uploads: &Uploads, record: Record) -> Result<UploadId, UploadError> {
    let root = uploads.root();
    look_ahead(root, &record.path, &record.options.conditions)?;
    match root.parent("write", &record.path, Missing::Fail) {
        Ok((directory, name)) => {
            let fail = |errno| FileError::from_errno("write", &record.path, errno);
            what_stands_there(&directory, name).map_err(fail)?;
        }
        // It is made in the end.
        Err(error) if error.kind() == FileErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    uploads.create(record)
}

/// Answers `/v1/uploads`: what is unfinished.
///
/// # Errors
/// For a query that is not acceptable.
pub fn list<B>(context: &FilesContext, request: &Request<B>) -> Result<Response<Body>, Problem> {
    Query::parse(request.uri().query())?.finish()?;
    match *request.method() {
        Method::GET => {}
        Method::HEAD => return Ok(json_response(StatusCode::OK, body::empty())),
        _ => return Ok(method_not_allowed("GET, HEAD")),
    }
    let uploads = context.uploads.list().into_iter().map(|upload| {
        json!({
            "upload": upload.id.to_string(),
            "path": super::shown(&upload.record.path),
            "offset": upload.offset,
            "length": upload.record.length,
            "busy": upload.busy,
            "expires": upload.expires.to_rfc3339(),
        })
    });
    let answer = json!({ "uploads": uploads.collect::<Vec<_>>() });
    Ok(json_response(StatusCode::OK, body::json(&answer)))
}

/// Answers `/v1/uploads/{id}`.
///
/// # Errors
/// A problem with a stable code.
pub async fn handle<B>(
    context: &FilesContext,
    id: &str,
    request: Request<B>,
) -> Result<Response<Body>, Problem>
where
    B: HttpBody<Data = Bytes>,
{
    let method = request.method().clone();
    if !matches!(method, Method::HEAD | Method::PATCH | Method::DELETE) {
        return Ok(method_not_allowed("HEAD, PATCH, DELETE"));
    }
    Query::parse(request.uri().query())?.finish()?;
    let known = UploadId::parse(id).ok_or_else(|| {
        let shown = super::path::printable(id.as_bytes());
        Problem::from(UploadError::Unknown(shown))
    })?;
    match method {
        Method::HEAD => status(context, known),
        Method::PATCH => patch(context, known, request).await,
        _ => cancel(context, known).await,
    }
}

fn status(context: &FilesContext, id: UploadId) -> Result<Response<Body>, Problem> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(ended) = context.uploads.ended(id) {
        describe(headers, &context.uploads, ended.written.size, true);
        return Ok(response);
    }
    let unfinished = context.uploads.list().into_iter().find(|upload| upload.id == id);
    let upload = unfinished.ok_or_else(|| UploadError::Unknown(id.to_string()))?;
    if let Some(length) = upload.record.length {
        headers.insert(&LENGTH, length.into());
    }
    describe(headers, &context.uploads, upload.offset, false);
    Ok(response)
}

async fn patch<B>(
    context: &FilesContext,
    id: UploadId,
    request: Request<B>,
) -> Result<Response<Body>, Problem>
where
    B: HttpBody<Data = Bytes>,
{
    let fields = UploadFields::parse(request.headers())?;
    if request.headers().get(header::CONTENT_TYPE).is_none_or(|kind| kind != PARTIAL_UPLOAD) {
        let detail = format!("a part of an upload is sent with Content-Type: {PARTIAL_UPLOAD}");
        let code = "unsupported_media_type";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, code, detail));
    }
    let offset = fields.offset.ok_or_else(|| {
        let detail = "Upload-Offset has to say where the part begins; HEAD tells how much there is";
        Problem::bad_request("bad_upload_field", detail)
    })?;
    let complete = fields.complete.unwrap_or(false);
    if let Some(ended) = context.uploads.ended(id) {
        let expected = ended.written.size;
        return Ok(if offset == expected {
            finished(&ended.record, &ended.written)
        } else {
            refusal(UploadError::Offset { expected, given: offset })
        });
    }
    let part = Part { offset, length: fields.length, complete };
    match send(context, id, part, request).await {
        Ok(Sent { record, written: Some(written), .. }) => Ok(finished(&record, &written)),
        Ok(Sent { size, written: None, .. }) => {
            let mut response = Response::new(body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            describe(response.headers_mut(), &context.uploads, size, false);
            Ok(response)
        }
        Err(refused) => Ok(refusal(refused?)),
    }
}

/// What came of a part.
struct Sent {
    record: Arc<Record>,
    /// Bytes of the upload.
    size: u64,
    written: Option<Written>,
}

/// Moves the request's content to the end of the upload. An upload's own refusal is apart from
/// others, because more is said with it.
async fn send<B>(
    context: &FilesContext,
    id: UploadId,
    part: Part,
    request: Request<B>,
) -> Result<Sent, Result<UploadError, Problem>>
where
    B: HttpBody<Data = Bytes>,
{
    let place = context.transfers.begin().map_err(Err)?;
    let lease = context.uploads.lease(id).map_err(Ok)?;
    let record = Arc::clone(&lease.record);
    let (feed, intake) = transfer::upload();
    let taking = blocking(move || {
        let taken = append(lease, part, intake);
        drop(place);
        taken
    });
    let (taken, ()) = tokio::join!(taking, feed.pump(request.into_body()));
    let (size, written) = taken.map_err(Err)?.map_err(Ok)?;
    Ok(Sent { record, size, written })
}

async fn cancel(context: &FilesContext, id: UploadId) -> Result<Response<Body>, Problem> {
    let uploads = Arc::clone(&context.uploads);
    match blocking(move || uploads.lease(id).map(|lease| lease.end(None))).await? {
        Ok(()) => {
            let mut response = Response::new(body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        Err(refused) => Ok(refusal(refused)),
    }
}

/// The answer to the last part: as of a plain `PUT`.
fn finished(record: &Record, written: &Written) -> Response<Body> {
    let mut response = written_response(&super::shown(&record.path), written);
    response.headers_mut().insert(&COMPLETE, boolean_value(true));
    response.headers_mut().insert(&OFFSET, written.size.into());
    response
}

fn describe(headers: &mut HeaderMap, uploads: &Uploads, offset: u64, complete: bool) {
    let limits = uploads.limits();
    headers.insert(&OFFSET, offset.into());
    headers.insert(&COMPLETE, boolean_value(complete));
    let limit = format!("max-size={}, max-age={}", limits.bytes, limits.keep.as_secs());
    insert(headers, LIMIT.clone(), &limit);
}

/// Removes what nobody goes on with, again and again; for a task of its own.
pub async fn keep_tidy(uploads: Arc<Uploads>) {
    /// Often enough for the default, and for tests, which keep them for seconds.
    const SHARE: u32 = 8;
    let longest = std::time::Duration::from_secs(600);
    let pause =
        (uploads.limits().keep / SHARE).clamp(std::time::Duration::from_millis(100), longest);
    loop {
        tokio::time::sleep(pause).await;
        let tidied = Arc::clone(&uploads);
        let now = super::metadata::FileTime::now();
        if blocking(move || tidied.expire(now)).await.is_err() {
            return;
        }
    }
}
