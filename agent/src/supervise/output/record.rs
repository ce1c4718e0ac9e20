//! What is kept of one stream: its beginning, where that was asked for, and its end. Pure.
//!
//! Invariant: the beginning is contiguous from the first byte on; the ring holds what came after it.

use super::{
    budget::{Budget, Share},
    ring::{Piece, Ring},
};

/// How much of a stream is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Of its beginning, in bytes.
    pub head: usize,
    /// Of its end, in bytes.
    pub tail: usize,
}

impl Keep {
    /// The last bytes, for readers who come back.
    pub fn tail(bytes: usize) -> Self {
        Self { head: 0, tail: bytes }
    }

    /// One half from the beginning, the other from the end, for a reader who wants an impression.
    pub fn both_ends(bytes: usize) -> Self {
        let tail = bytes / 2;
        Self { head: bytes - tail, tail }
    }
}

/// A stream, as far as it is kept.
#[derive(Debug)]
pub struct Record {
    head: Vec<u8>,
    head_limit: usize,
    head_share: Share,
    ring: Ring,
}

impl Record {
    /// An empty record, which takes its memory from `budget`.
    pub fn new(keep: Keep, budget: &Budget) -> Self {
        Self {
            head: Vec::new(),
            head_limit: keep.head,
            head_share: budget.share(),
            ring: Ring::new(keep.tail, budget.share()),
        }
    }

    /// Appends bytes.
    pub fn push(&mut self, data: &[u8]) {
        let (first, rest) = data.split_at(self.head_room(data.len()));
        if !first.is_empty() {
            self.head.extend_from_slice(first);
            self.ring.skip(first.len());
        }
        if !rest.is_empty() {
            // From here on the beginning has an end.
            self.head_limit = self.head.len();
            self.ring.push(rest);
        }
    }

    /// How many of the next `wanted` bytes belong to the beginning.
    fn head_room(&mut self, wanted: usize) -> usize {
        let wanted = self.head.len().saturating_add(wanted).min(self.head_limit);
        self.head_share.grow_to(wanted).min(wanted).saturating_sub(self.head.len())
    }

    /// How many bytes have ever been written.
    pub fn end(&self) -> u64 {
        self.ring.end()
    }

    /// How many bytes are kept.
    pub fn kept(&self) -> usize {
        self.head.len() + self.ring.len()
    }

    /// At most `limit` bytes from the offset `from` on.
    pub fn read(&self, from: u64, limit: usize) -> Piece {
        let begun = usize::try_from(from).ok().and_then(|from| self.head.get(from..));
        match begun {
            Some(head) if !head.is_empty() && limit > 0 => {
                let head = head.get(..limit).unwrap_or(head);
                Piece::Data(bytes::Bytes::copy_from_slice(head))
            }
            _ => self.ring.read(from, limit),
        }
    }

    /// How many bytes behind the beginning are kept for sure.
    pub fn assured(&mut self) -> usize {
        self.ring.assured()
    }

    /// Nothing is pushed any more.
    pub fn settle(&mut self) {
        self.head.shrink_to_fit();
        self.ring.settle();
    }

    /// The offset up to which the beginning is kept.
    pub fn head_end(&self) -> u64 {
        self.head.len() as u64
    }

    /// The offset from which on the end is kept: the same, unless bytes between them were left out.
    pub fn tail_start(&self) -> u64 {
        self.ring.start()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(keep: Keep) -> Record {
        Record::new(keep, &Budget::new(usize::MAX))
    }

    #[test]
    fn beginning_and_end_are_kept_and_what_is_between_is_a_gap() {
        for chunks in [&["0123456789"][..], &["0", "1234", "56789"]] {
            let mut record = record(Keep { head: 3, tail: 2 });
            chunks.iter().for_each(|chunk| record.push(chunk.as_bytes()));
            assert_eq!((record.end(), record.kept()), (10, 5));
            assert_eq!(record.read(0, 99), Piece::Data("012".into()));
            assert_eq!(record.read(1, 1), Piece::Data("1".into()));
            assert_eq!(record.read(3, 99), Piece::Gap { to: 8 });
            assert_eq!(record.read(8, 99), Piece::Data("89".into()));
            assert_eq!(record.read(10, 99), Piece::Nothing);
            assert_eq!((record.head_end(), record.tail_start()), (3, 8));
        }
    }

    #[test]
    fn the_beginning_ends_where_the_budget_does() {
        let mut record = Record::new(Keep { head: 100, tail: 100 }, &Budget::new(3));
        record.push(b"01234");
        record.push(b"56789");
        assert_eq!((record.head_end(), record.tail_start()), (3, 3));
        assert_eq!(record.read(3, 99), Piece::Data("3456789".into()));
    }

    #[test]
    fn halves_make_up_the_whole() {
        assert_eq!(Keep::both_ends(7), Keep { head: 4, tail: 3 });
        assert_eq!(Keep::both_ends(0), Keep::tail(0));
    }
}
