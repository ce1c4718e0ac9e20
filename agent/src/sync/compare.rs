//! `GET /v1/sync/manifest`: what a directory holds; `POST /v1/sync/diff`: how it differs from the
//! manifest that the client sends.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header, request::Parts};
use http_body::Body as HttpBody;
use tokio::sync::OwnedSemaphorePermit;
use workspace_common::{
    body::{Body, BoxError},
    problem::Problem,
};

use super::{
    SyncContext,
    coding::Coding,
    diff::{Criterion, Diff, changes, removes_ignored, wire::ChangeWriter},
    exchange::{begun, exchange},
    ignore::IgnoreFiles,
    manifest::{
        Entry,
        scan::Scan,
        wire::{ManifestReader, ManifestWriter},
    },
    pack::PackError,
    pull::source,
    selection::Selection,
};
use crate::{
    exec::form::NDJSON,
    files::{FileError, FileErrorKind, Root, blocking, query::Query, transfer},
};

pub(super) async fn manifest(
    context: &SyncContext,
    query: Option<&str>,
) -> Result<Response<Body>, Problem> {
    let mut query = Query::parse(query)?;
    let selection = Selection::take(&mut query)?;
    query.finish()?;
    let root = source(context, &selection).await?;
    let (mut outlet, body) = transfer::download();
    let place = context.transfers.begin()?;
    tokio::task::spawn_blocking(move || {
        let entries = Scan::new(root, selection.options);
        end(write_manifest(entries, &mut outlet), outlet);
        drop(place);
    });
    Ok(lines_response(begun(body).await?))
}

/// Which side is made like the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// The workspace like the client's tree.
    Push,
    /// The client's tree like the workspace.
    Pull,
}

fn take_direction(query: &mut Query) -> Result<Direction, Problem> {
    match query.take("direction")?.as_deref() {
        None | Some(b"push") => Ok(Direction::Push),
        Some(b"pull") => Ok(Direction::Pull),
        Some(_) => Err(Problem::bad_request("bad_query", "the direction is 'push' or 'pull'")),
    }
}

pub(super) async fn diff<B>(
    context: &SyncContext,
    request: Request<B>,
) -> Result<Response<Body>, Problem>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
{
    let (head, manifest) = request.into_parts();
    let prepared = Comparison::prepare(context, &head).await;
    let (comparison, manifest) = transfer::or_discard(prepared, manifest).await?;
    comparison.answer(manifest).await
}

/// A comparison, understood.
struct Comparison {
    selection: Selection,
    direction: Direction,
    /// The directory, unless a push has yet to make it.
    ours: Option<Arc<Root>>,
    coding: Coding,
    place: OwnedSemaphorePermit,
}

impl Comparison {
    async fn prepare(context: &SyncContext, head: &Parts) -> Result<Self, Problem> {
        let mut query = Query::parse(head.uri.query())?;
        let selection = Selection::take(&mut query)?;
        let direction = take_direction(&mut query)?;
        query.finish()?;
        let coding = Coding::of_body(&head.headers)?;
        let (root, path) = (Arc::clone(&context.root), selection.path.clone());
        let ours = match (blocking(move || root.subroot(&path)).await?, direction) {
            (Ok(root), _) => Some(Arc::new(root)),
            (Err(error), Direction::Push) if error.kind() == FileErrorKind::NotFound => None,
            (Err(error), _) => return Err(error.into()),
        };
        Ok(Self { selection, direction, ours, coding, place: context.transfers.begin()? })
    }

    async fn answer<B>(self, manifest: B) -> Result<Response<Body>, Problem>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
    {
        let (feed, intake) = transfer::upload();
        let (mut outlet, body) = transfer::download();
        tokio::task::spawn_blocking(move || {
            let Self { selection, direction, ours, coding, place } = self;
            let theirs = coding.decode(intake).map_err(BoxError::from);
            let written =
                theirs.and_then(|theirs| compare(ours, &selection, direction, theirs, &mut outlet));
            end(written, outlet);
            drop(place);
        });
        Ok(lines_response(exchange(feed, manifest, body).await?))
    }
}

fn compare(
    ours: Option<Arc<Root>>,
    selection: &Selection,
    direction: Direction,
    theirs: impl Read,
    output: &mut impl Write,
) -> Result<(), BoxError> {
    let criterion = selection.criterion();
    // Of what the client ignores, the client knows.
    let ignores = match (&ours, direction) {
        (Some(root), Direction::Pull) if selection.options.gitignore => {
            Some(IgnoreFiles::new(Arc::clone(root)))
        }
        _ => None,
    };
    let ours = ours.map(|root| Scan::new(root, selection.options.clone())).into_iter().flatten();
    let theirs = ManifestReader::new(theirs);
    match direction {
        Direction::Push => write_changes(theirs, ours, (criterion, ignores), output),
        Direction::Pull => write_changes(ours, theirs, (criterion, ignores), output),
    }
}

fn write_changes<S, T, SE, TE>(
    source: S,
    target: T,
    (criterion, ignores): (Criterion, Option<IgnoreFiles>),
    output: &mut impl Write,
) -> Result<(), BoxError>
where
    S: Iterator<Item = Result<Entry, SE>>,
    T: Iterator<Item = Result<Entry, TE>>,
    PackError: From<SE> + From<TE>,
{
    let mut found = changes::<_, _, PackError>(Diff::new(source, target, criterion));
    let mut writer = ChangeWriter::new(output);
    for change in found.by_ref() {
        let change = change?;
        if !removes_ignored(&change, ignores.as_ref()) {
            writer.append(&change)?;
        }
    }
    writer.finish(found.target_entries())?;
    Ok(())
}

/// Writes the manifest of a scan.
///
/// # Errors
/// When the tree cannot be read, or the output says so.
pub fn write_manifest(
    entries: impl Iterator<Item = Result<Entry, FileError>>,
    output: &mut impl Write,
) -> Result<(), BoxError> {
    let mut writer = ManifestWriter::new(output);
    for entry in entries {
        writer.append(&entry?)?;
    }
    writer.finish()?;
    Ok(())
}

/// Ends a body: with its end if all of it was written, otherwise cut.
pub(super) fn end(written: Result<(), BoxError>, outlet: transfer::Outlet) {
    match written {
        Ok(()) => {
            if outlet.finish().is_err() {
                tracing::debug!("the client left before the end of an answer");
            }
        }
        Err(error) => {
            if !error.is::<io::Error>() {
                tracing::debug!(%error, "an answer could not be made");
            }
            outlet.fail(error);
        }
    }
}

pub(super) fn lines_response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    response
}
