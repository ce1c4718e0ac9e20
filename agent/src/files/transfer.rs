//! Between HTTP bodies, which are asynchronous, and files and archives, which block.
//!
//! Both directions are channels of a few chunks: memory stays constant, and whichever side is
//! slower slows the other. Both carry their end explicitly. A channel that closes without it means
//! that the other side went away, and is an error, never an end: a cut upload cannot pass for a
//! short one.

mod download;
mod upload;

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http_body::Body as HttpBody;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use workspace_common::problem::Problem;

pub use download::{Outlet, TakeError, TakeFile, download, take_by_copy};
pub use upload::{Feed, Intake, UPLOAD_SILENCE, upload};

/// Bytes moved at once. Over Unix sockets 64 KiB costs a fifth to two fifths of the throughput, and
/// more than this gains nothing.
pub const CHUNK: usize = 256 * 1024;

/// Places for transfers: each holds a blocking thread for as long as its client takes, and without
/// a limit stalled clients would leave none for anybody else.
#[derive(Debug, Clone)]
pub struct Transfers {
    places: Arc<Semaphore>,
    limit: usize,
}

impl Transfers {
    /// Allows `limit` transfers at once.
    pub fn new(limit: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(limit)), limit }
    }

    /// Takes a place, until the permit is dropped.
    ///
    /// # Errors
    /// 429 when there is none: waiting for a client that has stalled helps nobody.
    pub fn begin(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.places.clone().try_acquire_owned().map_err(|_full| {
            let detail = format!(
                "{} transfers are under way, which is the limit; try again later",
                self.limit
            );
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_transfers", detail)
        })
    }
}

/// What was made of a request's head, with its body. Where the head is refused, the body is read to its
/// end first, so that the client gets to read the answer.
///
/// # Errors
/// The refusal.
pub async fn or_discard<T, B>(prepared: Result<T, Problem>, body: B) -> Result<(T, B), Problem>
where
    B: HttpBody<Data = Bytes>,
{
    match prepared {
        Ok(prepared) => Ok((prepared, body)),
        Err(problem) => {
            let (feed, intake) = upload();
            drop(intake);
            feed.pump(body).await;
            Err(problem)
        }
    }
}
