//! Cutting content into chunks at places that the content itself gives.

use std::io::{self, Read};

use fastcdc::v2020::FastCDC;

use super::Chunk;
use crate::sync::manifest::hash::ContentHash;

/// Chunks are no smaller, but for the last: the first so many bytes of one cost nothing, as no place to
/// cut is looked for in them.
const MIN_CHUNK: usize = 256 * 1024;
/// Beyond this, places to cut are twice as frequent as it says. No more than the smallest, all are:
/// chunks have 384 KiB on average, and one in three bytes is looked at.
const AVERAGE_CHUNK: usize = 256 * 1024;
/// Chunks are no larger.
pub const MAX_CHUNK: usize = 1024 * 1024;
/// What is read before it is cut; what is left of it is moved to the front, so it holds several.
const WINDOW: usize = 8 * MAX_CHUNK;

/// Cuts all that `input` gives and tells `each` chunk.
///
/// # Errors
/// What reading says, and `each`.
pub fn cut(mut input: impl Read, mut each: impl FnMut(Chunk) -> io::Result<()>) -> io::Result<()> {
    let mut window = vec![0; WINDOW];
    let mut held = 0;
    loop {
        let read = fill(&mut input, window.get_mut(held..).unwrap_or_default())?;
        held += read;
        let ended = held < window.len();
        let cut = cut_window(window.get(..held).unwrap_or_default(), ended, &mut each)?;
        if ended {
            return Ok(());
        }
        window.copy_within(cut..held, 0);
        held -= cut;
    }
}

/// Cuts what is held, and leaves what more content may change. Gives how much was cut.
fn cut_window(
    held: &[u8],
    ended: bool,
    each: &mut impl FnMut(Chunk) -> io::Result<()>,
) -> io::Result<usize> {
    let mut done = 0;
    for found in FastCDC::new(held, MIN_CHUNK, AVERAGE_CHUNK, MAX_CHUNK) {
        if !ended && held.len() - done < MAX_CHUNK {
            break;
        }
        let content = held.get(found.offset..found.offset + found.length).unwrap_or_default();
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
        each(Chunk { length, hash: ContentHash::of(content) })?;
        done += found.length;
    }
    Ok(done)
}

fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
