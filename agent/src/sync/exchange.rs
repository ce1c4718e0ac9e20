//! Answers that are made of the request's body while that still comes.
//!
//! The head of such an answer is held back until its first bytes are there: what is found wrong
//! before is told with a status and a reason, and only what comes later has to cut the body.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use workspace_common::{
    body::{Body, BoxError},
    problem::Problem,
};

use super::pack::PackError;
use crate::files::{FileError, transfer::Feed};

type Pump = Pin<Box<dyn Future<Output = ()> + Send>>;

/// `body`, made of `request`, as soon as its first bytes are there. Whoever reads it drives `feed`
/// on the way: a client that sends all of its body before it reads the answer holds itself up where
/// both are large.
///
/// # Errors
/// What the body fails with before its first bytes. The request is then read to its end, so that its
/// client gets to read the answer.
pub(super) async fn exchange<B>(feed: Feed, request: B, body: Body) -> Result<Body, Problem>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
{
    let pump = Some(Box::pin(async move { feed.pump(request).await }) as Pump);
    let mut answer = Exchange { begun: false, first: None, body, ended: false, pump };
    match answer.frame().await {
        Some(Err(error)) => {
            if let Some(pump) = answer.pump {
                pump.await;
            }
            Err(problem(error))
        }
        first => Ok(answer.begin_with(first.and_then(Result::ok))),
    }
}

/// The same for an answer to a request without a body.
///
/// # Errors
/// What the body fails with before its first bytes.
pub(super) async fn begun(body: Body) -> Result<Body, Problem> {
    let mut answer = Exchange { begun: false, first: None, body, ended: false, pump: None };
    match answer.frame().await {
        Some(Err(error)) => Err(problem(error)),
        first => Ok(answer.begin_with(first.and_then(Result::ok))),
    }
}

/// What the end of a body with an error means for an answer that has not begun.
fn problem(error: BoxError) -> Problem {
    let error = match error.downcast::<PackError>() {
        Ok(error) => return (*error).into(),
        Err(other) => other,
    };
    match error.downcast::<FileError>() {
        Ok(error) => (*error).into(),
        Err(other) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", other.to_string())
        }
    }
}

struct Exchange {
    /// Whether the head has gone, so that an error cuts the answer.
    begun: bool,
    /// What was waited for.
    first: Option<Frame<Bytes>>,
    body: Body,
    /// Whether the body has ended, perhaps before the request.
    ended: bool,
    pump: Option<Pump>,
}

impl Exchange {
    fn begin_with(self, first: Option<Frame<Bytes>>) -> Body {
        Self { begun: true, first, ..self }.boxed_unsync()
    }
}

impl Exchange {
    /// The end of the answer is held back until the request has ended. The last chunk of a manifest says
    /// nothing, so the answer may be complete before it has come; the connection would be closed then, and
    /// a client that still writes loses what it has not read.
    fn poll_body(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.ended {
            let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
            if frame.is_some() {
                return Poll::Ready(frame);
            }
            self.ended = true;
        }
        if self.pump.is_some() { Poll::Pending } else { Poll::Ready(None) }
    }
}

impl HttpBody for Exchange {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if self.pump.as_mut().is_some_and(|pump| pump.as_mut().poll(context).is_ready()) {
            self.pump = None;
        }
        let frame = self.poll_body(context);
        if let (Poll::Ready(Some(Err(error))), true) = (&frame, self.begun) {
            tracing::warn!(%error, "an answer was cut");
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures_util::FutureExt;
    use http_body_util::channel::Channel;
    use workspace_common::body::full;

    use super::*;
    use crate::files::transfer;

    #[tokio::test]
    async fn an_answer_does_not_end_before_its_request() {
        let (feed, _intake) = transfer::upload();
        let (mut sender, request) = Channel::<Bytes, io::Error>::new(1);
        sender.send_data("all that is wanted".into()).await.unwrap();
        let mut answer = exchange(feed, request, full("answer")).await.unwrap();
        let frame = answer.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "answer");
        assert!(answer.frame().now_or_never().is_none());
        drop(sender);
        assert!(answer.frame().await.is_none());
    }
}
