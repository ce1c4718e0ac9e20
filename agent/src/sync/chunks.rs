//! `GET /v1/sync/chunks`: the chunks of a file, for a push that sends what differs of it;
//! `POST /v1/sync/delta`: what of a file differs from the chunks that the client sends of its own.

use std::{
    collections::HashMap,
    io::{self, Read},
    sync::Arc,
    thread,
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body::Body as HttpBody;
use tokio::sync::OwnedSemaphorePermit;
use workspace_common::{
    body::{Body, BoxError},
    problem::Problem,
};

use super::{
    SyncContext,
    coding::Coding,
    compare::{end, lines_response},
    delta::{
        Delta,
        chunker::cut,
        signature::{Signature, open},
        wire::{ChunkWriter, read_chunks},
    },
    diff::Change,
    exchange::{begun, exchange},
    manifest::{Entry, Node},
    pack::{PackError, Updates},
    pull::{send, tar_response},
};
use crate::files::{FileError, Root, WorkspacePath, blocking, query::Query, transfer};

/// A file of a directory that is synced.
struct Named {
    directory: WorkspacePath,
    file: WorkspacePath,
}

impl Named {
    fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut query = Query::parse(query)?;
        let directory = query.take_path("path")?;
        let file = query.take_path("file")?;
        query.finish()?;
        Ok(Self { directory, file })
    }

    async fn root(&self, context: &SyncContext) -> Result<Arc<Root>, Problem> {
        let (root, path) = (Arc::clone(&context.root), self.directory.clone());
        Ok(Arc::new(blocking(move || root.subroot(&path)).await??))
    }
}

pub(super) async fn chunks(
    context: &SyncContext,
    query: Option<&str>,
) -> Result<Response<Body>, Problem> {
    let named = Named::parse(query)?;
    let root = named.root(context).await?;
    let (mut outlet, body) = transfer::download();
    let place = context.transfers.begin()?;
    tokio::task::spawn_blocking(move || {
        end(write_chunks(&root, &named.file, &mut outlet), outlet);
        drop(place);
    });
    Ok(lines_response(begun(body).await?))
}

fn write_chunks(
    root: &Root,
    path: &WorkspacePath,
    output: &mut transfer::Outlet,
) -> Result<(), BoxError> {
    let (file, _) = open(root, path)?;
    let mut writer = ChunkWriter::new(output);
    cut(file, |chunk| writer.append(chunk))?;
    writer.finish()?;
    Ok(())
}

pub(super) async fn delta<B>(
    context: &SyncContext,
    request: Request<B>,
) -> Result<Response<Body>, Problem>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
{
    let (head, list) = request.into_parts();
    let prepared = Asked::prepare(context, &head).await;
    let (asked, list) = transfer::or_discard(prepared, list).await?;
    asked.answer(list).await
}

/// A delta that is wanted.
struct Asked {
    root: Arc<Root>,
    file: WorkspacePath,
    /// Of the list.
    theirs: Coding,
    /// Of the answer.
    ours: Coding,
    place: OwnedSemaphorePermit,
}

impl Asked {
    async fn prepare(context: &SyncContext, head: &Parts) -> Result<Self, Problem> {
        let named = Named::parse(head.uri.query())?;
        Ok(Self {
            root: named.root(context).await?,
            file: named.file,
            theirs: Coding::of_body(&head.headers)?,
            ours: Coding::wanted(&head.headers),
            place: context.transfers.begin()?,
        })
    }

    async fn answer<B>(self, list: B) -> Result<Response<Body>, Problem>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
    {
        let (feed, intake) = transfer::upload();
        let (outlet, body) = transfer::download();
        let ours = self.ours;
        tokio::task::spawn_blocking(move || self.send(intake, outlet));
        Ok(tar_response(ours, exchange(feed, list, body).await?))
    }

    fn send(self, intake: transfer::Intake, outlet: transfer::Outlet) {
        let Self { root, file, theirs, ours, place } = self;
        let compared = theirs
            .decode(intake)
            .map_err(PackError::Output)
            .and_then(|list| compare(&root, &file, list));
        match compared {
            Ok(delta) => {
                let change = Change::Update(entry_of(file.clone(), &delta));
                let worth_it = delta.is_worth_it();
                let deltas = HashMap::from([(file, delta)]);
                let updates = if worth_it { Updates::Deltas(&deltas) } else { Updates::Whole };
                let changes = std::iter::once(Ok::<_, PackError>(change));
                send(&root, changes, updates, (ours, outlet));
            }
            Err(error) => outlet.fail(error),
        }
        drop(place);
    }
}

/// Cuts our file while their list comes.
fn compare(root: &Root, file: &WorkspacePath, list: impl Read + Send) -> Result<Delta, PackError> {
    let fail = |error| FileError::from_io("compare", file, &error);
    thread::scope(|scope| {
        let reading = thread::Builder::new()
            .name("chunks".into())
            .spawn_scoped(scope, || read_chunks(list))
            .map_err(fail)?;
        let ours = Signature::read(root, file);
        let panicked = |_panic| fail(io::Error::other("the thread that reads them has ended"));
        let theirs = reading.join().map_err(panicked)??;
        Ok(Delta::between(ours?, &theirs))
    })
}

fn entry_of(path: WorkspacePath, delta: &Delta) -> Entry {
    let Signature { size, mode, modified, .. } = delta.source;
    Entry { path, node: Node::File { size, hash: None }, mode, modified, stamp: 0 }
}
