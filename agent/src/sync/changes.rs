//! `GET /v1/sync/changes`: what has changed since a cursor, and `GET /v1/sync/pull?since=`, which brings
//! it along.
//!
//! A cursor names a snapshot that the agent keeps. The tree is scanned and compared with it, by the
//! inode and the time of the last change of each entry, which no program can set: so nothing is missed
//! where notifications are (shared mounts, mapped memory, a queue that was full). Something changed
//! within a tick of the clock of a snapshot may be told twice.

pub mod cursors;
pub mod snapshot;

use std::{io::Write, sync::Arc};

use http::{HeaderMap, HeaderValue, Response, header};
use serde_json::json;
use workspace_common::{
    body::{Body, BoxError},
    problem::Problem,
};

use super::{
    SyncContext, TAR,
    coding::Coding,
    compare::{end, lines_response},
    diff::{Changes, Criterion, Diff, changes, wire::ChangeWriter},
    manifest::{Entry, scan::Scan},
    pack::PackError,
    pull::send,
    selection::Selection,
};
use crate::files::{FileError, Root, blocking, query::Query, transfer};
use cursors::{Cursor, Watched};
use snapshot::{Recorder, Recording, Snapshot, SnapshotEntries};

/// The header that names the cursor of what an archive brings; it is valid once the archive is whole.
pub const CURSOR: &str = "workspace-cursor";

/// The comparison of a tree with its snapshot, which makes the next snapshot on the way.
type Found = Changes<Recording<Scan>, SnapshotEntries, PackError>;

/// Answers `GET /v1/sync/changes`: without `since`, a first cursor.
pub(super) async fn since(
    context: &SyncContext,
    query: Option<&str>,
) -> Result<Response<Body>, Problem> {
    let mut query = Query::parse(query)?;
    let (watched, before) = match query.take("since")? {
        Some(cursor) => {
            query.finish()?;
            let (watched, snapshot) = context.cursors.find(&cursor)?;
            (watched, Some(snapshot))
        }
        None => {
            let selection = Selection::take(&mut query)?;
            query.finish()?;
            (Arc::new(Watched { selection }), None)
        }
    };
    let root = root_of(context, &watched).await?;
    let (mut outlet, body) = transfer::download();
    let place = context.transfers.begin()?;
    let cursors = Arc::clone(&context.cursors);
    tokio::task::spawn_blocking(move || {
        let next = cursors.reserve();
        let written = match before {
            Some(before) => {
                let (found, recorder) = compare(root, &watched, before);
                write_found(found, &next, &mut outlet).map(|()| recorder)
            }
            None => first(root, &watched, &next, &mut outlet),
        };
        let written = written.map(|recorder| cursors.keep(&next, watched, recorder.finish()));
        end(written, outlet);
        drop(place);
    });
    Ok(lines_response(body))
}

/// Answers `GET /v1/sync/pull?since=`.
pub(super) async fn pull_since(
    context: &SyncContext,
    cursor: &[u8],
    headers: &HeaderMap,
) -> Result<Response<Body>, Problem> {
    let (watched, before) = context.cursors.find(cursor)?;
    let root = root_of(context, &watched).await?;
    let coding = Coding::wanted(headers);
    let (outlet, body) = transfer::download();
    let place = context.transfers.begin()?;
    let cursors = Arc::clone(&context.cursors);
    let next = cursors.reserve();
    let named = HeaderValue::from_str(&next.to_string());
    tokio::task::spawn_blocking(move || {
        let (found, recorder) = compare(Arc::clone(&root), &watched, before);
        if send(&root, found, coding, outlet) {
            cursors.keep(&next, watched, recorder.finish());
            cursors.note_progress();
        }
        drop(place);
    });
    let mut response = Response::new(body);
    let answer = response.headers_mut();
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static(TAR));
    if let Ok(named) = named {
        answer.insert(CURSOR, named);
    }
    coding.declare(answer);
    Ok(response)
}

async fn root_of(context: &SyncContext, watched: &Watched) -> Result<Arc<Root>, Problem> {
    let (root, path) = (Arc::clone(&context.root), watched.selection.path.clone());
    Ok(Arc::new(blocking(move || root.subroot(&path)).await??))
}

/// Compares a tree with its snapshot.
pub(super) fn compare(
    root: Arc<Root>,
    watched: &Watched,
    before: Arc<Snapshot>,
) -> (Found, Recorder) {
    compare_by(Criterion::Stamp, root, watched, before)
}

fn compare_by(
    criterion: Criterion,
    root: Arc<Root>,
    watched: &Watched,
    before: Arc<Snapshot>,
) -> (Found, Recorder) {
    let recorder = Recorder::default();
    let scan = recorder.record(Scan::new(root, watched.selection.options.clone()));
    (changes(Diff::new(scan, before.into_entries(), criterion)), recorder)
}

fn first(
    root: Arc<Root>,
    watched: &Watched,
    next: &Cursor,
    output: &mut impl Write,
) -> Result<Recorder, BoxError> {
    let recorder = Recorder::default();
    let mut entries = recorder.record(Scan::new(root, watched.selection.options.clone()));
    let outcome: Result<(), FileError> =
        entries.try_for_each(|entry: Result<Entry, _>| entry.map(drop));
    outcome?;
    write_end(output, 0, next)?;
    Ok(recorder)
}

fn write_found(found: Found, next: &Cursor, output: &mut impl Write) -> Result<(), BoxError> {
    let mut writer = ChangeWriter::new(&mut *output);
    for change in found {
        writer.append(&change?)?;
    }
    let count = writer.changes();
    write_end(output, count, next)?;
    Ok(())
}

fn write_end(output: &mut impl Write, count: u64, next: &Cursor) -> std::io::Result<()> {
    let line = json!({ "entries": count, "cursor": next.to_string(), "by": "scan" });
    writeln!(output, "{line}")
}

#[cfg(test)]
mod tests;
