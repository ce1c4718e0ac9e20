//! The steps of a delta as bytes: the content of a member of an archive.
//!
//! A step is a byte that says where its chunk is, its length (4 bytes, the most significant first),
//! and its hash (32 bytes). Behind `0` comes the chunk itself; behind `1` the place where the
//! receiver has it (8 bytes).

use super::{Chunk, chunker::MAX_CHUNK};
use crate::sync::manifest::hash::ContentHash;

const SENT: u8 = 0;
const KNOWN: u8 = 1;
/// Kind, length and hash.
pub const HEAD: usize = 1 + 4 + 32;
/// The place.
pub const PLACE: usize = 8;

/// A chunk, and where the receiver has it, if it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What comes next in the file.
    pub chunk: Chunk,
    /// The offset of the same chunk in the receiver's file.
    pub from: Option<u64>,
}

/// What the first bytes of a step say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// The chunk comes next.
    Sent(Chunk),
    /// Its place comes next.
    Known(Chunk),
}

impl Step {
    /// Bytes on the way, the chunk included where it is sent.
    pub fn encoded(&self) -> u64 {
        const WITH_PLACE: u64 = 1 + 4 + 32 + 8;
        match self.from {
            Some(_) => WITH_PLACE,
            None => WITH_PLACE - 8 + u64::from(self.chunk.length),
        }
    }

    /// Appends the step, without the chunk.
    pub fn write(&self, output: &mut Vec<u8>) {
        output.push(if self.from.is_some() { KNOWN } else { SENT });
        output.extend_from_slice(&self.chunk.length.to_be_bytes());
        output.extend_from_slice(self.chunk.hash.as_bytes());
        if let Some(from) = self.from {
            output.extend_from_slice(&from.to_be_bytes());
        }
    }
}

impl Head {
    /// Reads the first bytes; nothing if they are none of a step.
    pub fn parse(bytes: &[u8; HEAD]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (length, hash) = rest.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length);
        let possible = usize::try_from(length).is_ok_and(|n| (1..=MAX_CHUNK).contains(&n));
        let hash = ContentHash::from_bytes(hash.try_into().ok()?);
        let chunk = Chunk { length, hash };
        match *kind {
            SENT if possible => Some(Self::Sent(chunk)),
            KNOWN if possible => Some(Self::Known(chunk)),
            _ => None,
        }
    }
}
