//! `POST /v1/sync/push`: a tar stream into the workspace.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body::Body as HttpBody;
use workspace_common::{
    body::{self, Body},
    problem::Problem,
};

use super::{
    SyncContext, TAR,
    archive::Report,
    coding::Coding,
    unpack::{Purpose, Removals, Same, UnpackError, Unpacking, unpack},
};
use crate::files::{Root, WorkspacePath, blocking, json_response, query::Query, transfer};

/// What a push asks for.
struct Wanted {
    path: WorkspacePath,
    coding: Coding,
    unpacking: Unpacking,
}

pub(super) async fn push<B>(
    context: &SyncContext,
    request: Request<B>,
) -> Result<Response<Body>, Problem>
where
    B: HttpBody<Data = Bytes>,
{
    let wanted = parse(context, request.uri().query(), request.headers())?;
    let (feed, intake) = transfer::upload();
    let place = context.transfers.begin()?;
    let root = Arc::clone(&context.root);
    let unpacking = blocking(move || {
        let target = root.create_subroot(&wanted.path)?;
        let input = wanted.coding.decode(intake).map_err(|error| {
            crate::files::FileError::from_io("unpack into", &wanted.path, &error)
        })?;
        let report = receive(&target, wanted.unpacking, input);
        drop(place);
        report
    });
    // The request is read to its end in any case, or a client that still sends would see a broken
    // pipe instead of the answer.
    let (report, ()) = tokio::join!(unpacking, feed.pump(request.into_body()));
    Ok(json_response(StatusCode::OK, body::json(&serde_json::json!(report??))))
}

fn receive(
    target: &Root,
    unpacking: Unpacking,
    input: impl std::io::BufRead,
) -> Result<Report, UnpackError> {
    let unpacked = unpack(target, unpacking, input, &mut |_| {})?;
    Ok(unpacked.settle(target)?)
}

fn parse(
    context: &SyncContext,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<Wanted, Problem> {
    let mut query = Query::parse(query)?;
    let path = query.take_path("path")?;
    let mirror = query.take_flag("mirror", false)?;
    let delete = query.take_flag("delete", false)?;
    let skip_same = query.take_flag("skip_same", false)?;
    query.finish()?;
    let purpose = match (mirror, delete) {
        (false, false) => Purpose::Archive,
        (true, false) => Purpose::Mirror(Removals::Ignore),
        (_, true) => Purpose::Mirror(Removals::Collect),
    };
    if headers.get(header::CONTENT_TYPE).is_some_and(|given| given != TAR) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "a push takes an archive as application/x-tar",
        ));
    }
    let same = if skip_same { Same::LeaveAlone } else { Same::Write };
    let unpacking = Unpacking { purpose, same, limits: context.limits };
    Ok(Wanted { path, coding: Coding::of_body(headers)?, unpacking })
}
