//! The buffered reply, one JSON object. It is written from what is kept of the output as fast as the
//! client takes it, so that no reply is ever whole in memory: JSON can take six bytes for one.

use std::{collections::VecDeque, iter, sync::Arc};

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use workspace_common::body::{Body, BoxError, full};

use super::{
    json_type,
    kept::{Kept, Writer},
    reply::{self, Fields},
};
use crate::supervise::{output::Stream, process::Process, task::Outcome};

/// Bytes of a reply that are handed over at once, about.
const PIECE: usize = 64 * 1024;

/// How a command ended, and both streams as far as they were kept.
pub(super) fn answer(process: Arc<Process>, outcome: &Outcome) -> Response<Body> {
    let parts = parts(&process, outcome);
    let mut document = Document { process, parts };
    let first = document.next().unwrap_or_default();
    // Most are one piece, of which the length is known.
    let body = if document.parts.is_empty() { full(first) } else { body(first, document) };
    json_type(Response::new(body))
}

fn body(first: Bytes, rest: Document) -> Body {
    let pieces = iter::once(first).chain(rest);
    let frames = pieces.map(|piece| Ok::<_, BoxError>(Frame::data(piece)));
    StreamBody::new(stream::iter(frames)).boxed_unsync()
}

/// What is still to be written.
struct Document {
    process: Arc<Process>,
    parts: VecDeque<Part>,
}

enum Part {
    Json(String),
    Output(Stream, Writer),
}

fn parts(process: &Process, outcome: &Outcome) -> VecDeque<Part> {
    let mut fields = reply::outcome(process, outcome);
    let mut parts = VecDeque::new();
    for (name, stream) in [("stdout", Stream::Stdout), ("stderr", Stream::Stderr)] {
        let kept = process.output().look(stream, Kept::of);
        fields.extend(about(name, kept));
        parts.push_back(Part::Json(format!(",\"{name}\":\"")));
        parts.push_back(Part::Output(stream, Writer::new(kept)));
        parts.push_back(Part::Json("\"".into()));
    }
    parts.push_back(Part::Json("}\n".into()));
    let mut begun = Value::Object(fields).to_string();
    // The object goes on with the output.
    begun.pop();
    parts.push_front(Part::Json(begun));
    parts
}

/// What is said of a stream besides its bytes.
fn about(name: &str, kept: Kept) -> Fields {
    let gap = kept.gap().map_or(Value::Null, |(from, to)| json!({"from": from, "to": to}));
    Fields::from_iter([
        (format!("{name}_truncated"), kept.gap().is_some().into()),
        (format!("{name}_gap"), gap),
        (format!("{name}_bytes"), kept.total.into()),
        (format!("{name}_encoding"), kept.encoding.as_str().into()),
    ])
}

impl Iterator for Document {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let Self { process, parts } = self;
        let mut piece = String::new();
        while piece.len() < PIECE
            && let Some(part) = parts.front_mut()
        {
            let is_done = match part {
                Part::Json(text) => {
                    piece.push_str(text);
                    true
                }
                Part::Output(stream, writer) => {
                    !process.output().look(*stream, |record| writer.write_next(record, &mut piece))
                }
            };
            if is_done {
                parts.pop_front();
            }
        }
        (!piece.is_empty()).then(|| piece.into())
    }
}
