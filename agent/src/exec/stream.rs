//! The streamed reply: events go through a bounded queue into the body as they happen.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::poll_fn;
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use workspace_common::{
    body::{Body, BoxError},
    problem::Problem,
};

use super::{
    ExecContext, NDJSON,
    event::{Encoder, line},
    outcome_fields,
    request::ExecRequest,
    start,
};
use crate::supervise::{
    Running,
    process::Stream,
    task::{OutputSink, Outputs},
};

/// Events that may wait for a client that does not read; beyond it the command waits.
const QUEUE: usize = 16;

/// One stream of output on its way into the reply.
#[derive(Debug)]
struct Events {
    encoder: Encoder,
    lines: mpsc::Sender<Bytes>,
}

impl Events {
    async fn send(&self, line: Option<Bytes>) {
        let Some(line) = line else { return };
        if self.lines.send(line).await.is_err() {
            tracing::trace!("the client of a command has gone");
        }
    }
}

impl OutputSink for Events {
    async fn write(&mut self, data: Bytes) {
        let line = self.encoder.push(&data);
        self.send(line).await;
    }

    async fn finish(&mut self) {
        let line = self.encoder.finish();
        self.send(line).await;
    }
}

/// Starts the command and answers with its events. The command ends when the client goes away.
pub(super) fn answer(
    context: &Arc<ExecContext>,
    request: ExecRequest,
) -> Result<Response<Body>, Problem> {
    let (lines, queue) = mpsc::channel(QUEUE);
    let events = |stream| Events { encoder: Encoder::new(stream), lines: lines.clone() };
    let outputs = Outputs { stdout: events(Stream::Stdout), stderr: events(Stream::Stderr) };
    let running = start(context, request, outputs)?;
    let started = json!({"event": "started", "id": running.id, "pid": running.pid});
    if lines.try_send(line(&started)).is_err() {
        tracing::error!("a new queue is full");
    }
    context.engine.drain().spawn(follow(running, lines));
    Ok(response(queue))
}

/// Waits for the end of the command or of the client, whichever comes first.
async fn follow(running: Running<Events>, lines: mpsc::Sender<Bytes>) {
    let (id, pid) = (running.id.clone(), running.pid);
    let ended = tokio::select! {
        ended = running.wait() => ended,
        // Dropping `running` ends the command.
        () = lines.closed() => return,
    };
    let last = match ended {
        Ok((outcome, outputs)) => {
            let mut event = outcome_fields(&id, pid, &outcome);
            event.insert("event".into(), "exited".into());
            event.insert("stdout_bytes".into(), outputs.stdout.encoder.offset().into());
            event.insert("stderr_bytes".into(), outputs.stderr.encoder.offset().into());
            Value::Object(event)
        }
        Err(error) => {
            tracing::error!(%error, "the task that owned a command failed");
            json!({"event": "error", "code": "internal", "detail": "the agent lost the command"})
        }
    };
    if lines.send(line(&last)).await.is_err() {
        tracing::debug!(id, "the client left before the end of its command");
    }
}

fn response(mut queue: mpsc::Receiver<Bytes>) -> Response<Body> {
    let frames = poll_fn(move |cx| {
        queue.poll_recv(cx).map(|line| line.map(|line| Ok::<_, BoxError>(Frame::data(line))))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    response
}
