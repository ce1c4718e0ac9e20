//! `GET /v1/events`: what happens in the workspace, one event a line, until the agent ends. A
//! subscriber learns of a stop at once, with the time that is left to fetch what it wants to keep; and
//! as long as it is there, the agent serves on, until shortly before the deadline.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use futures_util::stream::unfold;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::Instant,
};
use workspace_common::linger::Received;
use workspace_common::{
    body::{Body, BoxError},
    drain::{Drain, Hold},
    problem::Problem,
};

use crate::{
    exec::{
        event::line,
        form::NDJSON,
        method_not_allowed,
        query::none,
        reply::{self, Fields},
    },
    supervise::bulletin::{Bulletin, Notice, What},
};

/// After so long without an event one is sent all the same, so that a connection that has silently
/// gone is noticed on both ends.
const ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Subscribers are let go of so long before the deadline, or a tenth of the whole.
const MAX_MARGIN: Duration = Duration::from_secs(1);

/// What the call needs.
#[derive(Debug)]
pub struct EventsContext {
    /// Where notices are put up.
    pub bulletin: Bulletin,
    /// Names this life of the agent.
    pub boot: String,
    /// The stop of commands, which is the first stage of the agent's.
    pub stop: Drain,
    /// The stage between the two, which subscribers hold up.
    pub saving: Drain,
    /// The stop of calls, which is the last.
    pub end: Drain,
    /// How long all of them may take.
    pub drain_timeout: Duration,
}

/// Answers the call.
///
/// # Errors
/// 400 for a query parameter.
pub fn handle(
    context: &EventsContext,
    request: &Request<Received>,
) -> Result<Response<Body>, Problem> {
    if request.method() != Method::GET {
        return Ok(method_not_allowed("GET"));
    }
    none(request.uri().query())?;
    let events = unfold(Subscriber::new(context), |mut subscriber| async {
        let event = subscriber.next().await?;
        Some((Ok::<_, BoxError>(Frame::data(event)), subscriber))
    });
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    Ok(response)
}

struct Subscriber {
    notices: Receiver<Notice>,
    stop: Drain,
    end: Drain,
    drain_timeout: Duration,
    /// Keeps the agent serving.
    hold: Option<Hold>,
    /// When that has to end, for the agent to end in order before its deadline. A subscriber that
    /// comes during the stop is counted from its own start, and may be cut.
    release_at: Option<Instant>,
    pending: VecDeque<Bytes>,
    told_of_stop: bool,
    ended: bool,
}

impl Subscriber {
    fn new(context: &EventsContext) -> Self {
        // Subscribed before the first line: what happens after that is in the stream.
        let notices = context.bulletin.subscribe();
        let draining = context.stop.is_draining();
        let hello = json!({"event": "hello", "boot": context.boot, "draining": draining});
        Self {
            notices,
            stop: context.stop.clone(),
            end: context.end.clone(),
            drain_timeout: context.drain_timeout,
            hold: Some(context.saving.hold()),
            release_at: None,
            pending: VecDeque::from([line(&hello)]),
            told_of_stop: false,
            ended: false,
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        if let Some(event) = self.pending.pop_front() {
            return Some(event);
        }
        if self.ended {
            return None;
        }
        let event = tokio::select! {
            biased;
            () = self.stop.started(), if !self.told_of_stop => {
                self.told_of_stop = true;
                let margin = (self.drain_timeout / 10).min(MAX_MARGIN);
                self.release_at = Some(Instant::now() + self.drain_timeout.saturating_sub(margin));
                let deadline = u64::try_from(self.drain_timeout.as_millis()).unwrap_or(u64::MAX);
                json!({"event": "draining", "deadline_ms": deadline, "at": now()})
            }
            notice = self.notices.recv() => self.tell(notice),
            () = self.end.started() => self.farewell(),
            () = release(self.release_at) => {
                (self.hold, self.release_at) = (None, None);
                json!({"event": "alive"})
            }
            () = tokio::time::sleep(ALIVE_INTERVAL) => json!({"event": "alive"}),
        };
        Some(line(&event))
    }

    fn tell(&mut self, notice: Result<Notice, RecvError>) -> Value {
        match notice {
            Ok(notice) => event(&notice),
            Err(RecvError::Lagged(missed)) => json!({"event": "lagged", "missed": missed}),
            Err(RecvError::Closed) => self.farewell(),
        }
    }

    fn farewell(&mut self) -> Value {
        self.ended = true;
        json!({"event": "stopped"})
    }
}

/// Resolves at that instant, if there is one.
async fn release(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn event(notice: &Notice) -> Value {
    let (name, id, pid, ending) = match &notice.what {
        What::Started { id, pid } => ("process_started", id, pid, Fields::new()),
        What::Exited { id, pid, outcome } => {
            let ending = outcome.as_ref().map(reply::ending).unwrap_or_default();
            ("process_exited", id, pid, ending)
        }
    };
    let mut fields = ending;
    fields.extend([
        ("event".into(), name.into()),
        ("id".into(), (**id).into()),
        ("pid".into(), (*pid).into()),
        ("at".into(), timestamp(notice.at).into()),
    ]);
    Value::Object(fields)
}

fn now() -> String {
    timestamp(std::time::SystemTime::now())
}

fn timestamp(at: std::time::SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}
