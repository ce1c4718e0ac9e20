//! The end of a stream that is kept for readers who come later, by absolute byte offset. Pure.
//!
//! Invariant: the bytes kept are those from [`Ring::start`] to [`Ring::end`] of all that were ever
//! written, in order, and never more than the capacity, nor than the budget grants.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::budget::Share;

/// A ring keeps so much even when the budget is used up: enough for a last word.
const FLOOR: usize = 4096;

/// The last bytes of a stream.
#[derive(Debug)]
pub struct Ring {
    kept: VecDeque<u8>,
    start: u64,
    capacity: usize,
    share: Share,
}

/// What a ring holds for an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// The next bytes.
    Data(Bytes),
    /// They are gone; the oldest that are kept begin here.
    Gap {
        /// The first offset that is kept.
        to: u64,
    },
    /// Nothing has been written there yet.
    Nothing,
}

impl Ring {
    /// A ring that keeps `capacity` bytes, as far as `share` can grow. It takes no more memory than
    /// has been written.
    pub fn new(capacity: usize, share: Share) -> Self {
        Self { kept: VecDeque::new(), start: 0, capacity, share }
    }

    /// The offset of the oldest byte that is kept.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// How many bytes have ever been written.
    pub fn end(&self) -> u64 {
        self.start + self.len() as u64
    }

    /// How many bytes are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Passes over bytes that somebody else keeps, before the first is pushed.
    pub fn skip(&mut self, bytes: usize) {
        debug_assert!(self.is_empty(), "only the beginning can be passed over");
        self.start += bytes as u64;
    }

    /// Appends bytes; the oldest give way.
    pub fn push(&mut self, data: &[u8]) {
        let end = self.end() + data.len() as u64;
        let capacity = self.grant(data.len());
        let new = data.get(data.len().saturating_sub(capacity)..).unwrap_or_default();
        let room = capacity - new.len();
        self.kept.drain(..self.len().saturating_sub(room));
        self.kept.extend(new);
        self.start = end - self.len() as u64;
    }

    /// How many bytes may be kept once `more` have come.
    fn grant(&mut self, more: usize) -> usize {
        let wanted = self.len().saturating_add(more).min(self.capacity);
        self.share.grow_to(wanted).max(FLOOR).min(self.capacity)
    }

    /// How many bytes are kept for sure, once as many have been taken from the budget as there are.
    pub fn assured(&mut self) -> usize {
        self.share.grow_to(self.capacity).max(FLOOR).min(self.capacity)
    }

    /// Gives back memory that was reserved for more: nothing is pushed any more.
    pub fn settle(&mut self) {
        self.kept.shrink_to_fit();
    }

    /// At most `limit` bytes from the offset `from` on.
    pub fn read(&self, from: u64, limit: usize) -> Piece {
        if from < self.start {
            return Piece::Gap { to: self.start };
        }
        let skipped = usize::try_from(from - self.start).unwrap_or(usize::MAX);
        if skipped >= self.len() || limit == 0 {
            return Piece::Nothing;
        }
        let mut data = BytesMut::with_capacity(limit.min(self.len() - skipped));
        let (first, second) = self.kept.as_slices();
        let rest = skipped.saturating_sub(first.len());
        for (half, skipped) in [(first, skipped), (second, rest)] {
            let half = half.get(skipped..).unwrap_or_default();
            let room = (limit - data.len()).min(half.len());
            data.extend_from_slice(half.get(..room).unwrap_or_default());
        }
        Piece::Data(data.freeze())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prop_assert, prop_assert_eq};

    use super::{super::budget::Budget, *};

    fn ring(capacity: usize) -> Ring {
        Ring::new(capacity, Budget::new(usize::MAX).share())
    }

    #[test]
    fn without_a_budget_a_last_word_is_kept() {
        let mut ring = Ring::new(1 << 20, Budget::new(0).share());
        ring.push(&[b'x'; 10_000]);
        assert_eq!((ring.len(), ring.end()), (FLOOR, 10_000));
        let budget = Budget::new(FLOOR + 10);
        let mut ring = Ring::new(1 << 20, budget.share());
        ring.push(&[b'x'; 2 * FLOOR]);
        assert_eq!(ring.len(), FLOOR + 10);
        drop(ring);
        assert_eq!(budget.share().grow_to(usize::MAX), FLOOR + 10);
    }

    #[test]
    fn the_oldest_bytes_give_way() {
        let mut ring = ring(4);
        ring.push(b"abc");
        assert_eq!(ring.read(0, 2), Piece::Data("ab".into()));
        ring.push(b"def");
        assert_eq!((ring.start(), ring.end(), ring.len()), (2, 6, 4));
        assert_eq!(ring.read(0, 10), Piece::Gap { to: 2 });
        assert_eq!(ring.read(2, 10), Piece::Data("cdef".into()));
        assert_eq!(ring.read(6, 10), Piece::Nothing);
        ring.push(b"0123456789");
        assert_eq!(ring.read(12, 10), Piece::Data("6789".into()));
        let mut none = Ring::new(0, Budget::new(9).share());
        none.push(b"abc");
        assert_eq!((none.read(0, 1), none.read(3, 1)), (Piece::Gap { to: 3 }, Piece::Nothing));
    }

    proptest::proptest! {
        #[test]
        fn what_is_read_is_what_was_written_there(
            chunks in vec(vec(proptest::num::u8::ANY, 0..20), 0..20),
            capacity in 0_usize..40,
            from in 0_usize..400,
            limit in 0_usize..50,
        ) {
            let all = chunks.concat();
            let mut ring = ring(capacity);
            chunks.iter().for_each(|chunk| ring.push(chunk));
            prop_assert_eq!(ring.end(), all.len() as u64);
            prop_assert_eq!(ring.len(), all.len().min(capacity));
            let start = all.len() - ring.len();
            let expected = match all.get(from..) {
                _ if from < start => Piece::Gap { to: start as u64 },
                None | Some([]) => Piece::Nothing,
                Some(_) if limit == 0 => Piece::Nothing,
                Some(rest) => Piece::Data(Bytes::copy_from_slice(&rest[..rest.len().min(limit)])),
            };
            prop_assert!(ring.read(from as u64, limit) == expected);
        }
    }
}
