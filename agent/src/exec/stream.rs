//! A streamed answer: what a [`Reader`] finds, written as events. The body asks the reader whenever
//! the connection has room, and holds nothing but a few pieces of one item.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::stream::unfold;
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use workspace_common::{
    body::{Body, BoxError},
    presence::Required,
};

use super::{
    event::{Encoder, line},
    form::Encoding,
    frame::{self, Kind},
    reply::{error_event, last_event},
};
use crate::supervise::{
    output::Stream,
    process::{Attachment, Process, State},
    reader::{From, Item, Reader},
};

/// Answers with what `reader` finds, after the event `first`. The body goes with its client, and an
/// attached client with the body.
pub(crate) fn answer(
    reader: Reader,
    from: From,
    encoding: Encoding,
    first: Option<Value>,
    client: (Option<Attachment>, Required),
) -> Response<Body> {
    let writer = Writer::new(encoding, reader.process(), from);
    let pieces = first.map(|event| writer.event(&event)).into_iter().collect();
    let streaming = Streaming { reader, writer, pieces, broken: false, _client: client };
    let frames = unfold(streaming, |mut streaming| async {
        let piece = streaming.next().await?;
        Some((Ok::<_, BoxError>(Frame::data(piece)), streaming))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let media_type = HeaderValue::from_static(encoding.media_type());
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}

/// What a stream is called in events. A terminal has only one.
pub(crate) fn stream_name(process: &Process, stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout if process.has_terminal() => "pty",
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

/// The same in frames.
pub(crate) fn stream_kind(process: &Process, stream: Stream) -> Kind {
    match stream {
        Stream::Stdout if process.has_terminal() => Kind::Pty,
        Stream::Stdout => Kind::Stdout,
        Stream::Stderr => Kind::Stderr,
    }
}

/// The event for bytes that are kept no more.
pub(crate) fn gap_event(process: &Process, stream: Stream, from: u64, to: u64) -> Value {
    json!({"event": "gap", "stream": stream_name(process, stream), "from": from, "to": to})
}

struct Streaming {
    reader: Reader,
    writer: Writer,
    pieces: VecDeque<Bytes>,
    /// The output cannot be read on, and the client has been told.
    broken: bool,
    _client: (Option<Attachment>, Required),
}

impl Streaming {
    async fn next(&mut self) -> Option<Bytes> {
        while self.pieces.is_empty() {
            if self.broken {
                return None;
            }
            match self.reader.next().await {
                // Bytes that only begin a character make no event yet.
                Ok(Some(item)) => self.writer.write(self.reader.process(), item, &mut self.pieces),
                Ok(None) => return None,
                Err(error) => {
                    self.broken = true;
                    let event = error_event("spool_unreadable", &error.to_string());
                    self.pieces.push_back(self.writer.event(&event));
                }
            }
        }
        self.pieces.pop_front()
    }
}

/// Writes items in the encoding that the client asked for.
enum Writer {
    Lines { stdout: TextStream, stderr: TextStream },
    Frames,
}

struct TextStream {
    encoder: Encoder,
    after_gap: bool,
}

impl Writer {
    fn new(encoding: Encoding, process: &Process, from: From) -> Self {
        let text = |stream, offset| TextStream {
            encoder: Encoder::at(stream_name(process, stream), offset),
            after_gap: false,
        };
        match encoding {
            Encoding::Lines => Self::Lines {
                stdout: text(Stream::Stdout, from.stdout),
                stderr: text(Stream::Stderr, from.stderr),
            },
            Encoding::Frames => Self::Frames,
        }
    }

    fn event(&self, event: &Value) -> Bytes {
        match self {
            Self::Lines { .. } => line(event),
            Self::Frames => frame::event(event.to_string().as_bytes()),
        }
    }

    fn write(&mut self, process: &Process, item: Item, pieces: &mut VecDeque<Bytes>) {
        match self {
            Self::Lines { stdout, stderr } => write_lines(stdout, stderr, process, item, pieces),
            Self::Frames => write_frames(process, item, pieces),
        }
    }
}

fn write_lines(
    stdout: &mut TextStream,
    stderr: &mut TextStream,
    process: &Process,
    item: Item,
    pieces: &mut VecDeque<Bytes>,
) {
    match item {
        Item::Data { stream: Stream::Stdout, data, .. } => pieces.extend(stdout.push(&data)),
        Item::Data { stream: Stream::Stderr, data, .. } => pieces.extend(stderr.push(&data)),
        Item::Gap { stream: Stream::Stdout, to, .. } => pieces.extend(stdout.skip_to(to)),
        Item::Gap { stream: Stream::Stderr, to, .. } => pieces.extend(stderr.skip_to(to)),
        Item::End(state) => {
            // A character that a running command has only begun is for the next reader.
            if !matches!(state, State::Running) {
                pieces.extend(stdout.encoder.finish());
                pieces.extend(stderr.encoder.finish());
            }
            pieces.push_back(line(&last_event(process, &state)));
        }
    }
}

impl TextStream {
    fn push(&mut self, data: &[u8]) -> Vec<Bytes> {
        if std::mem::take(&mut self.after_gap) {
            return self.encoder.push_after_gap(data);
        }
        self.encoder.push(data).into_iter().collect()
    }

    fn skip_to(&mut self, to: u64) -> Vec<Bytes> {
        self.after_gap = true;
        self.encoder.skip_to(to)
    }
}

fn write_frames(process: &Process, item: Item, pieces: &mut VecDeque<Bytes>) {
    let event = |event: &Value| frame::event(event.to_string().as_bytes());
    match item {
        Item::Data { stream, offset, data } => {
            let head = frame::data_head(stream_kind(process, stream), offset, data.len());
            pieces.extend([Bytes::copy_from_slice(&head), data]);
        }
        Item::Gap { stream, from, to } => {
            pieces.push_back(event(&gap_event(process, stream, from, to)));
        }
        Item::End(state) => pieces.push_back(event(&last_event(process, &state))),
    }
}
