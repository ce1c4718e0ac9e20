//! `GET /v1/sync/pull`: a directory as a tar stream; `POST`: what of it differs from the manifest that
//! the client sends of what it has.

use std::{io::Read, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::Body as HttpBody;
use workspace_common::{body::Body, problem::Problem};

use super::{
    SyncContext, TAR,
    changes::pull_since,
    coding::{Coding, Encoder},
    diff::{Change, Criterion, Diff, changes},
    manifest::{
        scan::{Scan, ScanOptions},
        wire::ManifestReader,
    },
    pack::{PackError, pack, whole},
    selection::Selection,
};
use crate::files::{Root, blocking, query::Query, transfer};

/// Everything beneath the directory.
pub(super) async fn all(
    context: &SyncContext,
    request: &Request<impl Sized>,
) -> Result<Response<Body>, Problem> {
    let mut query = Query::parse(request.uri().query())?;
    if let Some(cursor) = query.take("since")? {
        query.finish()?;
        return pull_since(context, &cursor, request.headers()).await;
    }
    let selection = Selection::take(&mut query)?;
    query.finish()?;
    let source = source(context, &selection).await?;
    let (cursors, path) = (Arc::clone(&context.cursors), selection.path.clone());
    let coding = Coding::wanted(request.headers());
    let (outlet, body) = transfer::download();
    let place = context.transfers.begin()?;
    tokio::task::spawn_blocking(move || {
        let entries = Scan::new(Arc::clone(&source), selection.options);
        if send(&source, whole(entries), coding, outlet) {
            cursors.note_pull(&path);
        }
        drop(place);
    });
    Ok(tar_response(coding, body))
}

/// What differs from the client's.
pub(super) async fn differing<B>(
    context: &SyncContext,
    request: Request<B>,
) -> Result<Response<Body>, Problem>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
{
    let mut query = Query::parse(request.uri().query())?;
    let selection = Selection::take(&mut query)?;
    let delete = query.take_flag("delete", false)?;
    query.finish()?;
    let theirs_coding = Coding::of_body(request.headers())?;
    let source = source(context, &selection).await?;
    let coding = Coding::wanted(request.headers());
    let (feed, intake) = transfer::upload();
    let (outlet, body) = transfer::download();
    let place = context.transfers.begin()?;
    let (criterion, path) = (selection.criterion(), selection.path.clone());
    let cursors = Arc::clone(&context.cursors);
    tokio::task::spawn_blocking(move || {
        match theirs_coding.decode(intake) {
            Ok(theirs) => {
                let found = against(&source, selection.options, theirs, criterion);
                let found = found.filter(move |change| {
                    delete || !matches!(change, Ok(Change::Remove(_)))
                });
                if send(&source, found, coding, outlet) {
                    cursors.note_pull(&path);
                }
            }
            Err(error) => outlet.fail(error),
        }
        drop(place);
    });
    let body = transfer::exchange(feed, request.into_body(), body);
    Ok(tar_response(coding, body))
}

/// What has to be done to a tree with this manifest for it to be as `source`.
fn against(
    source: &Arc<Root>,
    options: ScanOptions,
    theirs: impl Read,
    criterion: Criterion,
) -> impl Iterator<Item = Result<Change, PackError>> {
    let ours = Scan::new(Arc::clone(source), options);
    changes(Diff::new(ours, ManifestReader::new(theirs), criterion))
}

pub(super) async fn source(
    context: &SyncContext,
    selection: &Selection,
) -> Result<Arc<Root>, Problem> {
    let (root, path) = (Arc::clone(&context.root), selection.path.clone());
    Ok(Arc::new(blocking(move || root.subroot(&path)).await??))
}

fn tar_response(coding: Coding, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(TAR));
    coding.declare(response.headers_mut());
    response
}

/// Sends an archive; says whether all of it went.
pub(super) fn send<E: Into<PackError>>(
    source: &Root,
    found: impl Iterator<Item = Result<Change, E>>,
    coding: Coding,
    outlet: transfer::Outlet,
) -> bool {
    let mut encoder = match coding.encode(outlet) {
        Ok(encoder) => encoder,
        Err(error) => {
            // Without memory for it the body is cut, which the client notices.
            tracing::warn!(%error, "a pull could not be compressed");
            return false;
        }
    };
    let packed = pack(source, found, &mut encoder, &mut |_| {}).map(drop);
    finish(encoder, packed)
}

fn finish(encoder: Encoder, packed: Result<(), PackError>) -> bool {
    match packed {
        Ok(()) => {
            let sent = encoder.finish().is_ok();
            if !sent {
                tracing::debug!("the client left before the end of a pull");
            }
            sent
        }
        Err(error) => {
            if matches!(&error, PackError::File(_)) {
                tracing::warn!(%error, "a pull was cut");
            }
            encoder.fail(error);
            false
        }
    }
}
