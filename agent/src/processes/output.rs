//! `GET …/output`: the output of a detached command as events, from given offsets on.
//!
//! The body asks the rings whenever the connection has room and holds nothing but its place in them:
//! a reader that stops costs nobody anything, and finds a stated gap when it goes on too late.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream::unfold;
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::watch;
use workspace_common::{
    body::{Body, BoxError},
    problem::Problem,
};

use super::query::OutputQuery;
use crate::{
    exec::{
        NDJSON,
        event::{Encoder, line},
        outcome_fields,
    },
    supervise::{
        process::{Process, State, Stream},
        ring::Piece,
    },
};

/// The most that one event carries.
const READ_SIZE: usize = 64 * 1024;

/// Answers with the output.
///
/// # Errors
/// 400 for an offset that nothing has been written to yet.
pub(super) fn answer(
    process: Arc<Process>,
    query: &OutputQuery,
) -> Result<Response<Body>, Problem> {
    for (name, stream, from) in [
        ("stdout_from", Stream::Stdout, query.stdout_from),
        ("stderr_from", Stream::Stderr, query.stderr_from),
    ] {
        let written = process.written(stream);
        if from > written {
            let detail = format!("{name} is {from}, and only {written} bytes have been written");
            return Err(Problem::bad_request("out_of_range", detail));
        }
    }
    let reader = Reader::new(process, query);
    let frames = unfold(reader, |mut reader| async {
        let lines = reader.next().await?;
        Some((Ok::<_, BoxError>(Frame::data(lines)), reader))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    Ok(response)
}

/// A place in the output of a command.
struct Reader {
    process: Arc<Process>,
    changes: watch::Receiver<State>,
    cursors: [Cursor; 2],
    /// What to go by for a reader that does not follow: the state when it came.
    snapshot: Option<State>,
    finished: bool,
}

/// A place in one stream.
struct Cursor {
    encoder: Encoder,
    /// Not to be read beyond.
    until: u64,
    after_gap: bool,
}

impl Reader {
    fn new(process: Arc<Process>, query: &OutputQuery) -> Self {
        let changes = process.changes();
        // The state first: of a command that had ended, all that there is is read.
        let snapshot = (!query.follow).then(|| process.state());
        let cursor = |stream, from| Cursor {
            encoder: Encoder::at(stream, from),
            until: if query.follow { u64::MAX } else { process.written(stream) },
            after_gap: false,
        };
        let cursors =
            [cursor(Stream::Stdout, query.stdout_from), cursor(Stream::Stderr, query.stderr_from)];
        Self { process, changes, cursors, snapshot, finished: false }
    }

    /// The next events, as lines.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.finished {
            // Before the rings: what is written after this wakes the reader again.
            let now = *self.changes.borrow_and_update();
            let mut lines = BytesMut::new();
            for cursor in &mut self.cursors {
                lines.extend(cursor.read(&self.process));
            }
            if lines.is_empty() {
                lines.extend(self.end(self.snapshot.unwrap_or(now)));
            }
            if !lines.is_empty() {
                return Some(lines.freeze());
            }
            self.changes.changed().await.ok()?;
        }
        None
    }

    /// The last lines, if nothing more is to come.
    fn end(&mut self, state: State) -> Vec<Bytes> {
        let last = match state {
            State::Running if self.snapshot.is_none() => return Vec::new(),
            State::Running => json!({"event": "open"}),
            State::Ended(outcome) => {
                let mut event = outcome_fields(&self.process.id, self.process.pid, &outcome);
                let written = |stream| self.process.written(stream);
                event.insert("event".into(), "exited".into());
                event.insert("stdout_bytes".into(), written(Stream::Stdout).into());
                event.insert("stderr_bytes".into(), written(Stream::Stderr).into());
                Value::Object(event)
            }
            State::Lost => {
                json!({"event": "error", "code": "internal", "detail": "the agent lost the command"})
            }
        };
        self.finished = true;
        // A character that a running command has only begun is for the next reader.
        let cut = self.cursors.iter_mut().filter(|_| !matches!(state, State::Running));
        cut.filter_map(|cursor| cursor.encoder.finish()).chain([line(&last)]).collect()
    }
}

impl Cursor {
    /// The events for the next bytes that are there. Bytes that only begin a character make none,
    /// so there may be more bytes where there is no event.
    fn read(&mut self, process: &Process) -> Vec<Bytes> {
        loop {
            let from = self.encoder.position();
            if from >= self.until {
                return Vec::new();
            }
            let room = usize::try_from(self.until - from).unwrap_or(usize::MAX);
            let events = match process.read(self.encoder.stream(), from, room.min(READ_SIZE)) {
                Piece::Nothing => return Vec::new(),
                Piece::Gap { to } => {
                    self.after_gap = true;
                    self.encoder.skip_to(to)
                }
                Piece::Data(data) if std::mem::take(&mut self.after_gap) => {
                    self.encoder.push_after_gap(&data)
                }
                Piece::Data(data) => self.encoder.push(&data).into_iter().collect(),
            };
            if !events.is_empty() {
                return events;
            }
        }
    }
}
