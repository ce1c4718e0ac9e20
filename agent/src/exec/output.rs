//! What a buffered reply keeps of one output stream: its head and its tail, with the gap between
//! them stated. Pure but for being an [`OutputSink`].

use std::collections::VecDeque;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;

use crate::supervise::task::OutputSink;

/// Collects a stream, keeping at most a given number of bytes.
#[derive(Debug)]
pub struct HeadTail {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    head_limit: usize,
    tail_limit: usize,
    total: u64,
}

/// What was kept.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept {
    /// The bytes as text, encoded as `encoding` says.
    pub text: String,
    /// `utf-8` or `base64`.
    pub encoding: &'static str,
    /// How many bytes the command wrote.
    pub total: u64,
    /// The offsets between which bytes were left out.
    pub gap: Option<(u64, u64)>,
}

impl HeadTail {
    /// Keeps at most `limit` bytes: one half of them from the beginning, the other from the end.
    pub fn new(limit: usize) -> Self {
        let tail_limit = limit / 2;
        Self {
            head: Vec::new(),
            tail: VecDeque::new(),
            head_limit: limit - tail_limit,
            tail_limit,
            total: 0,
        }
    }

    fn push(&mut self, data: &[u8]) {
        self.total += data.len() as u64;
        let room = self.head_limit - self.head.len();
        let (head, rest) = data.split_at(room.min(data.len()));
        self.head.extend_from_slice(head);
        let rest = rest.split_at(rest.len().saturating_sub(self.tail_limit)).1;
        let surplus = (self.tail.len() + rest.len()).saturating_sub(self.tail_limit);
        self.tail.drain(..surplus);
        self.tail.extend(rest);
    }

    /// The end of the stream: what is kept, as text where it is text. A character is not cut by the
    /// gap; what is left of it joins the gap.
    pub fn finish(mut self) -> Kept {
        let tail = self.tail.make_contiguous();
        let kept = (self.head.len() + tail.len()) as u64;
        if kept == self.total {
            self.head.extend_from_slice(tail);
            return encode(self.head, self.total, None);
        }
        self.head.truncate(whole_characters(&self.head));
        let head = self.head;
        let tail = tail.split_at(continuation_bytes(tail)).1;
        let gap = (head.len() as u64, self.total - tail.len() as u64);
        encode([&head, tail].concat(), self.total, Some(gap))
    }
}

/// The length of `data` without a character that is cut at its end.
fn whole_characters(data: &[u8]) -> usize {
    // The last character begins at most three bytes before the last one.
    let begin = data.iter().rev().take(4).position(|byte| !is_continuation(*byte));
    let last = begin.map_or(data.len(), |back| data.len() - back - 1);
    let cut = data.get(last..).is_some_and(|last| {
        std::str::from_utf8(last).is_err_and(|error| error.error_len().is_none())
    });
    if cut { last } else { data.len() }
}

/// How many bytes at the beginning belong to a character that began before.
fn continuation_bytes(data: &[u8]) -> usize {
    data.iter().take(3).take_while(|byte| is_continuation(**byte)).count()
}

fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

fn encode(data: Vec<u8>, total: u64, gap: Option<(u64, u64)>) -> Kept {
    match String::from_utf8(data) {
        Ok(text) => Kept { text, encoding: "utf-8", total, gap },
        Err(error) => {
            Kept { text: STANDARD.encode(error.as_bytes()), encoding: "base64", total, gap }
        }
    }
}

impl OutputSink for HeadTail {
    async fn write(&mut self, data: Bytes) {
        self.push(&data);
    }

    async fn finish(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(limit: usize, chunks: &[&[u8]]) -> Kept {
        let mut stream = HeadTail::new(limit);
        chunks.iter().for_each(|chunk| stream.push(chunk));
        stream.finish()
    }

    #[test]
    fn a_stream_within_the_limit_is_whole() {
        for chunks in [&[&b"0123456789"[..]][..], &[b"0123", b"", b"456789"]] {
            let kept = kept(10, chunks);
            assert_eq!((kept.text.as_str(), kept.total, kept.gap), ("0123456789", 10, None));
        }
    }

    #[test]
    fn beyond_the_limit_head_and_tail_are_kept_and_the_gap_is_stated() {
        for chunks in [&[&b"0123456789abcdef"[..]][..], &[b"0", b"123456", b"789abcde", b"f"]] {
            let kept = kept(6, chunks);
            assert_eq!((kept.text.as_str(), kept.total, kept.gap), ("012def", 16, Some((3, 13))));
        }
        let nothing = kept(0, &[b"abc"]);
        assert_eq!((nothing.text.as_str(), nothing.total, nothing.gap), ("", 3, Some((0, 3))));
    }

    #[test]
    fn the_gap_takes_whole_characters() {
        let kept = kept(8, &["aäöü€€€üöä".as_bytes()]);
        assert_eq!((kept.text.as_str(), kept.encoding), ("aäöä", "utf-8"));
        assert_eq!(kept.gap, Some((3, 18)));
    }

    #[test]
    fn what_is_not_text_is_base64() {
        let kept = kept(10, &[b"\xff\x00"]);
        assert_eq!((kept.text.as_str(), kept.encoding), ("/wA=", "base64"));
    }

    proptest::proptest! {
        #[test]
        fn what_is_kept_is_what_was_written(
            chunks in proptest::collection::vec(proptest::collection::vec(0_u8..128, 0..20), 0..20),
            limit in 0_usize..64,
        ) {
            let all = chunks.concat();
            let mut stream = HeadTail::new(limit);
            chunks.iter().for_each(|chunk| stream.push(chunk));
            let kept = stream.finish();
            proptest::prop_assert!(kept.text.len() <= limit.max(all.len().min(limit)));
            let expected = match kept.gap {
                None => all.clone(),
                Some((from, to)) => [
                    &all[..usize::try_from(from).unwrap()],
                    &all[usize::try_from(to).unwrap()..],
                ].concat(),
            };
            proptest::prop_assert_eq!(kept.text.into_bytes(), expected);
        }
    }
}
