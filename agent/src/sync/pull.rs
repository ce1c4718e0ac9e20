//! `GET /v1/sync/pull`: a directory as a tar stream; `POST`: what of it differs from the manifest that
//! the client sends of what it has.

use std::{io::Read, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header, request::Parts};
use http_body::Body as HttpBody;
use tokio::sync::OwnedSemaphorePermit;
use workspace_common::{body::Body, problem::Problem};

use super::{
    SyncContext, TAR,
    changes::{cursors::Cursors, pull_since},
    coding::{Coding, Encoder},
    delta::HEADER,
    diff::{Change, Criterion, Diff, changes, removes_ignored},
    exchange::{begun, exchange},
    ignore::IgnoreFiles,
    manifest::{
        scan::{Scan, ScanOptions},
        wire::ManifestReader,
    },
    pack::{PackError, Updates, pack_updates, whole},
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
        if send(&source, whole(entries), Updates::Whole, (coding, outlet)) {
            cursors.note_pull(&path);
        }
        drop(place);
    });
    Ok(tar_response(coding, begun(body).await?))
}

/// What differs from the client's.
pub(super) async fn differing<B>(
    context: &SyncContext,
    request: Request<B>,
) -> Result<Response<Body>, Problem>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
{
    let (head, manifest) = request.into_parts();
    let prepared = Differing::prepare(context, &head).await;
    let (differing, manifest) = transfer::or_discard(prepared, manifest).await?;
    differing.answer(manifest).await
}

/// A pull of what differs, understood.
struct Differing {
    selection: Selection,
    source: Arc<Root>,
    delete: bool,
    /// Of the manifest.
    theirs: Coding,
    /// Of the answer.
    ours: Coding,
    /// Whether large files that the client has in another form are kept back.
    defers: bool,
    cursors: Arc<Cursors>,
    place: OwnedSemaphorePermit,
}

impl Differing {
    async fn prepare(context: &SyncContext, head: &Parts) -> Result<Self, Problem> {
        let mut query = Query::parse(head.uri.query())?;
        let selection = Selection::take(&mut query)?;
        let delete = query.take_flag("delete", false)?;
        query.finish()?;
        Ok(Self {
            source: source(context, &selection).await?,
            selection,
            delete,
            theirs: Coding::of_body(&head.headers)?,
            ours: Coding::wanted(&head.headers),
            defers: head.headers.contains_key(HEADER),
            cursors: Arc::clone(&context.cursors),
            place: context.transfers.begin()?,
        })
    }

    async fn answer<B>(self, manifest: B) -> Result<Response<Body>, Problem>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
    {
        let (feed, intake) = transfer::upload();
        let (outlet, body) = transfer::download();
        let ours = self.ours;
        tokio::task::spawn_blocking(move || self.send(intake, outlet));
        Ok(tar_response(ours, exchange(feed, manifest, body).await?))
    }

    fn send(self, intake: transfer::Intake, outlet: transfer::Outlet) {
        let theirs = match self.theirs.decode(intake) {
            Ok(theirs) => theirs,
            Err(error) => return outlet.fail(error),
        };
        let Selection { path, options } = &self.selection;
        let found = against(&self.source, options.clone(), theirs, self.selection.criterion());
        let ignores = options.gitignore.then(|| IgnoreFiles::new(Arc::clone(&self.source)));
        let wanted = |change: &Result<Change, _>| match change {
            Ok(Change::Remove(_)) if !self.delete => false,
            Ok(change) => !removes_ignored(change, ignores.as_ref()),
            Err(_) => true,
        };
        let updates = if self.defers { Updates::Deferred } else { Updates::Whole };
        if send(&self.source, found.filter(wanted), updates, (self.ours, outlet)) {
            self.cursors.note_pull(path);
        }
        drop(self.place);
    }
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

pub(super) fn tar_response(coding: Coding, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(TAR));
    coding.declare(response.headers_mut());
    response
}

/// Sends an archive; says whether all of it went.
pub(super) fn send<E: Into<PackError>>(
    source: &Root,
    found: impl Iterator<Item = Result<Change, E>>,
    updates: Updates<'_>,
    (coding, outlet): (Coding, transfer::Outlet),
) -> bool {
    let mut encoder = match coding.encode(outlet) {
        Ok(encoder) => encoder,
        Err(error) => {
            // Without memory for it the body is cut, which the client notices.
            tracing::warn!(%error, "a pull could not be compressed");
            return false;
        }
    };
    let packed = pack_updates(source, found, updates, &mut encoder, &mut |_| {}).map(drop);
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
