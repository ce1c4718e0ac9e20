//! Our standard input on its way to a command.

use std::{
    future::pending,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::TryStreamExt;
use http::{Method, Request};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio_util::io::ReaderStream;
use workspace_common::{body::BoxError, client::Client};

/// Size of one read.
const CHUNK: usize = 256 * 1024;

/// Uploads our standard input to its end, and then waits for ever: a command that ends or stops
/// reading first is its own business. The answer is why our input cannot be read, for which the
/// command must not wait.
pub(super) async fn feed(client: &Client, id: &str) -> io::Error {
    let unreadable = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&unreadable);
    let stdin = ReaderStream::with_capacity(tokio::io::stdin(), CHUNK).map_ok(Frame::data).map_err(
        move |error| -> BoxError {
            *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            "standard input cannot be read".into()
        },
    );
    let mut request = Request::new(StreamBody::new(stdin).boxed_unsync());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = format!("/v1/processes/{id}/stdin?eof=true").parse().unwrap_or_default();
    if let Err(error) = client.request_apart(request).await {
        tracing::debug!(%error, "standard input was not read to its end");
    }
    let unreadable = unreadable.lock().unwrap_or_else(PoisonError::into_inner).take();
    match unreadable {
        Some(error) => error,
        None => pending().await,
    }
}
