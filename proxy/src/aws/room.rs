//! Room for the bodies that have to be read whole before they are signed.
//!
//! One body may be large, and a workspace may send any number at once; together they get a fixed
//! amount of memory, and further ones wait without being read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use workspace_common::body::{self, Body, BodyError};

use crate::refusal::Refusal;

/// How many bodies of the largest size are held at a time.
const BODIES: usize = 4;
/// How long a request waits for room.
const PATIENCE: Duration = Duration::from_secs(30);
/// Room is given out in pieces of this many bytes.
const PIECE: usize = 1024;

/// The room that is left.
#[derive(Debug)]
pub struct BodyRoom {
    limit: usize,
    pieces: Arc<Semaphore>,
}

/// Bytes with the room that they take, given back when the last reader of them is done.
struct Held {
    content: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.content
    }
}

impl BodyRoom {
    /// Room for bodies of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        // What a permit counts is 32 bits wide.
        let limit = limit.min(PIECE * (u32::MAX as usize / BODIES));
        let pieces = BODIES * pieces_of(limit) as usize;
        Self { limit, pieces: Arc::new(Semaphore::new(pieces.min(Semaphore::MAX_PERMITS))) }
    }

    /// Reads a body whole.
    ///
    /// # Errors
    /// It is over the limit or breaks off, or no room becomes free for it.
    pub async fn collect(&self, content: Body) -> Result<Bytes, Refusal> {
        let size = content.size_hint();
        let announced =
            size.exact().map_or(self.limit, |exact| usize::try_from(exact).unwrap_or(usize::MAX));
        if announced > self.limit {
            return Err(Refusal::BodyTooLarge);
        }
        let mut room = self.take(announced).await?;
        let content =
            body::collect_limited(content, self.limit).await.map_err(|e| refusal_of(&e))?;
        // What was taken for a body of unknown length and is not needed goes back at once.
        let spare = room.num_permits().saturating_sub(pieces_of(content.len()) as usize);
        drop(room.split(spare));
        Ok(Bytes::from_owner(Held { content, _room: room }))
    }

    async fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let taking = Arc::clone(&self.pieces).acquire_many_owned(pieces_of(bytes));
        match timeout(PATIENCE, taking).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) | Err(_) => Err(Refusal::Overloaded),
        }
    }
}

fn pieces_of(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(PIECE)).unwrap_or(u32::MAX)
}

fn refusal_of(error: &BodyError) -> Refusal {
    match error {
        BodyError::TooLarge(_) => Refusal::BodyTooLarge,
        BodyError::Failed(_) => Refusal::BadBody,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn bodies_wait_for_room_and_give_it_back() {
        let room = BodyRoom::new(PIECE);
        let full = || body::full(vec![0; PIECE]);
        let mut held = Vec::new();
        for _ in 0..BODIES {
            held.push(room.collect(full()).await.unwrap());
        }
        assert!(room.collect(full()).now_or_never().is_none(), "it should wait");
        let part = held.pop().unwrap().slice(1..);
        assert!(room.collect(full()).now_or_never().is_none(), "it should still wait");
        drop(part);
        assert_eq!(room.collect(full()).await.unwrap().len(), PIECE);
        assert_eq!(room.collect(body::empty()).await.unwrap().len(), 0);
        assert_eq!(room.collect(body::full(vec![0; PIECE + 1])).await, Err(Refusal::BodyTooLarge));
    }
}
