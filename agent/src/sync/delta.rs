//! What of a large file the other side has already, so that only the rest is sent.
//!
//! Files are cut where their content says so (FastCDC), so that an insertion moves the chunks behind
//! it and does not change them. The receiver's list of chunks is compared with the sender's; what is
//! missing is sent, and the rest is copied from the receiver's own file. Each chunk is verified in
//! the file that is made, so it is the sender's content or nothing: a file that was changed
//! meanwhile, on either side, is sent whole instead.
//!
//! Pure, but for [`signature`], which reads a file. A list takes 36 bytes a chunk: 1 MiB for 10 GiB.

pub mod chunker;
pub mod signature;
pub mod step;
pub mod wire;

use std::collections::HashMap;

use super::manifest::hash::ContentHash;
use signature::Signature;
use step::Step;

/// A header of requests: the client asks for large files that it has in another form by calls of
/// their own, so they are only noted. An agent that does not know it sends them.
pub const HEADER: &str = "workspace-delta";
/// Files below this size are sent whole: asking what is there takes as long.
pub const WORTH_ASKING: u64 = 4 * 1024 * 1024;
/// Most chunks of a list, at 384 KiB each on average: files beyond 96 GiB or so are sent whole.
pub const MAX_CHUNKS: usize = 256 * 1024;
/// A delta that spares less than this part of a file is not worth its reading.
const WORTH_SPARING: u64 = 8;

/// A piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chunk {
    /// Bytes; at most [`chunker::MAX_CHUNK`].
    pub length: u32,
    /// Of its content.
    pub hash: ContentHash,
}

/// How the receiver makes a file out of the one that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The sender's file, as it was cut.
    pub source: Signature,
    /// Its chunks in their order, each with the place where the receiver has it.
    pub steps: Vec<Step>,
}

impl Delta {
    /// Compares the sender's file with the receiver's chunks.
    pub fn between(source: Signature, theirs: &[Chunk]) -> Self {
        let places = places(theirs);
        let step = |chunk: &Chunk| Step { chunk: *chunk, from: places.get(chunk).copied() };
        let steps = source.chunks.iter().map(step).collect();
        Self { source, steps }
    }

    /// Bytes that need not be sent.
    pub fn spared(&self) -> u64 {
        let known = self.steps.iter().filter(|step| step.from.is_some());
        known.map(|step| u64::from(step.chunk.length)).sum()
    }

    /// Whether it is worth more than the file itself.
    pub fn is_worth_it(&self) -> bool {
        self.spared() > 0 && self.spared() >= self.source.size / WORTH_SPARING
    }

    /// Bytes that it has on the way.
    pub fn encoded(&self) -> u64 {
        self.steps.iter().map(Step::encoded).sum()
    }
}

/// Bytes of a file of these chunks that a receiver with those has.
pub fn spared(ours: &[Chunk], theirs: &[Chunk]) -> u64 {
    let places = places(theirs);
    let known = ours.iter().filter(|chunk| places.contains_key(chunk));
    known.map(|chunk| u64::from(chunk.length)).sum()
}

/// Where each chunk is; the first of equal ones.
fn places(chunks: &[Chunk]) -> HashMap<Chunk, u64> {
    let mut places = HashMap::with_capacity(chunks.len());
    let mut offset = 0;
    for chunk in chunks {
        places.entry(*chunk).or_insert(offset);
        offset += u64::from(chunk.length);
    }
    places
}

#[cfg(test)]
mod tests;
