//! `GET /v1/sync/watch`: changes as they happen, one a line.
//!
//! Notifications of the kernel (inotify(7)) only say *when* to look; *what* has changed is found by
//! comparing the tree with how it was, as for a cursor. So an overflow of their queue loses nothing,
//! nor does a change that raises none, which is found by looking now and then anyway. Where there are
//! no notifications the tree is looked at every second.

mod notifier;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream::unfold;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use rustix::io::Errno;
use serde_json::json;
use tokio::time::Instant;
use workspace_common::{
    body::{Body, BoxError},
    drain::Drain,
    problem::Problem,
};

use super::{
    SyncContext,
    changes::{
        compare,
        cursors::Watched,
        snapshot::{Recorder, Snapshot},
    },
    compare::lines_response,
    diff::wire::change_line,
    manifest::scan::Scan,
    selection::Selection,
};
use crate::{
    exec::event::line,
    files::{Root, blocking, query::Query},
};
use notifier::Notifier;

/// What comes in one go is told in one go.
const SETTLE: Duration = Duration::from_millis(20);
/// How often the tree is looked at where nothing tells of changes.
const BLIND_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked at all the same, where something does; and how often a line is sent at
/// least, so that a client that has silently gone is noticed.
const DOUBT_INTERVAL: Duration = Duration::from_secs(15);
/// Between two looks there is so many times the time that one takes.
const REST: u32 = 3;

pub(super) async fn watch(
    context: &SyncContext,
    query: Option<&str>,
) -> Result<Response<Body>, Problem> {
    let mut query = Query::parse(query)?;
    let selection = Selection::take(&mut query)?;
    query.finish()?;
    let (root, path) = (Arc::clone(&context.root), selection.path.clone());
    let root = Arc::new(blocking(move || root.subroot(&path)).await??);
    let watched = Arc::new(Watched { selection });
    let (scanned, recorder) = (Arc::clone(&root), Recorder::default());
    let options = watched.selection.options.clone();
    let snapshot = blocking(move || {
        recorder.record(Scan::new(scanned, options)).try_for_each(|entry| entry.map(drop))?;
        Ok::<_, crate::files::FileError>(recorder.finish())
    });
    let snapshot = Arc::new(snapshot.await??);
    let watcher = Watcher::new(root, watched, snapshot, context.end.clone());
    let events = unfold(watcher, |mut watcher| async {
        let event = watcher.next().await?;
        Some((event.map(Frame::data), watcher))
    });
    Ok(lines_response(StreamBody::new(events).boxed_unsync()))
}

struct Watcher {
    root: Arc<Root>,
    watched: Arc<Watched>,
    snapshot: Arc<Snapshot>,
    notifier: Option<Arc<Notifier>>,
    /// Directories that have come to be watched may have changed before they were.
    look_again: bool,
    look_took: Duration,
    sent: Instant,
    end: Drain,
    pending: VecDeque<Bytes>,
    ended: bool,
}

/// What a look has found.
struct Seen {
    lines: Vec<Bytes>,
    snapshot: Arc<Snapshot>,
    /// New watches, or that there can be none.
    covered: Result<usize, Errno>,
}

impl Watcher {
    fn new(root: Arc<Root>, watched: Arc<Watched>, snapshot: Arc<Snapshot>, end: Drain) -> Self {
        let notifier = Notifier::start().map(Arc::new);
        let mut watcher = Self {
            root,
            watched,
            snapshot,
            notifier,
            look_again: true,
            look_took: Duration::ZERO,
            sent: Instant::now(),
            end,
            pending: VecDeque::new(),
            ended: false,
        };
        watcher.say_how();
        watcher
    }

    /// Says how changes are found from here on.
    fn say_how(&mut self) {
        let by = if self.notifier.is_some() { "inotify" } else { "scan" };
        self.pending.push_back(line(&json!({ "event": "ready", "by": by })));
    }

    async fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                self.sent = Instant::now();
                return Some(Ok(event));
            }
            if self.ended {
                return None;
            }
            let end = self.end.clone();
            tokio::select! {
                () = end.started() => self.finish(&json!({ "event": "stopped" })),
                () = self.woken() => {
                    if let Err(error) = self.look().await {
                        self.finish(&json!({ "event": "error", "detail": error.to_string() }));
                    }
                }
            }
        }
    }

    fn finish(&mut self, last: &serde_json::Value) {
        self.ended = true;
        self.pending.push_back(line(last));
    }

    /// Resolves when it is time to look. Safe to cancel.
    async fn woken(&self) {
        if self.look_again {
            return;
        }
        let rest = SETTLE.max(self.look_took * REST);
        let Some(notifier) = &self.notifier else {
            return tokio::time::sleep(BLIND_INTERVAL.max(rest)).await;
        };
        tokio::select! {
            () = notifier.told() => {}
            () = tokio::time::sleep(DOUBT_INTERVAL) => {}
        }
        tokio::time::sleep(rest).await;
    }

    async fn look(&mut self) -> Result<(), BoxError> {
        if let Some(notifier) = &self.notifier {
            notifier.forget();
        }
        let (root, watched) = (Arc::clone(&self.root), Arc::clone(&self.watched));
        let (before, notifier) = (Arc::clone(&self.snapshot), self.notifier.clone());
        let began = Instant::now();
        let seen = tokio::task::spawn_blocking(move || look(&root, &watched, before, notifier));
        let Seen { lines, snapshot, covered } = seen.await??;
        self.look_took = began.elapsed();
        self.look_again = matches!(covered, Ok(1..));
        self.snapshot = snapshot;
        if lines.is_empty() && self.sent.elapsed() >= DOUBT_INTERVAL {
            self.pending.push_back(line(&json!({ "event": "alive" })));
        }
        self.pending.extend(lines);
        if let Err(error) = covered {
            tracing::debug!(%error, "a watch goes on without notifications");
            self.notifier = None;
            self.say_how();
        }
        Ok(())
    }
}

fn look(
    root: &Arc<Root>,
    watched: &Watched,
    before: Arc<Snapshot>,
    notifier: Option<Arc<Notifier>>,
) -> Result<Seen, BoxError> {
    let (found, recorder) = compare(Arc::clone(root), watched, before);
    let mut lines = Vec::new();
    for change in found {
        let mut text = change_line(&change?)?;
        // An event like all others: `{"event":"changed",` in the place of the brace.
        text.splice(..1, *b"{\"event\":\"changed\",");
        lines.push(text.into());
    }
    let snapshot = Arc::new(recorder.finish());
    let covered = notifier.map_or(Ok(0), |notifier| notifier.cover(root, &snapshot));
    Ok(Seen { lines, snapshot, covered })
}
