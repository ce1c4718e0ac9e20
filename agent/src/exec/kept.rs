//! The output in a buffered reply: the beginning and the end that were kept, with the gap between
//! them stated, written in pieces that are each whole by themselves. Pure.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::supervise::output::{record::Record, ring::Piece};

/// Bytes of output that are written at once: a number of threes, each of which is four in base64.
const PIECE: usize = 3 * 5 * 1024;
/// The longest character of UTF-8, in bytes.
const CHARACTER: usize = 4;

/// How bytes are written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// They are text.
    Utf8,
    /// They are not.
    Base64,
}

impl Encoding {
    /// The word of the API.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Utf8 => "utf-8",
            Self::Base64 => "base64",
        }
    }
}

/// What is shown of a stream to which nothing is added any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    /// The beginning is shown up to here.
    head: u64,
    /// The end is shown from here on.
    tail: u64,
    /// How many bytes the command wrote.
    pub(super) total: u64,
    pub(super) encoding: Encoding,
}

impl Kept {
    /// All that is kept. A character is not cut by the gap; what is left of it joins the gap.
    pub(super) fn of(record: &Record) -> Self {
        let (mut head, mut tail, total) = (record.head_end(), record.tail_start(), record.end());
        if head < tail {
            let last = read(record, head.saturating_sub(CHARACTER as u64), CHARACTER);
            head -= (last.len() - whole_characters(&last)) as u64;
            tail += continuation_bytes(&read(record, tail, CHARACTER - 1)) as u64;
        }
        let kept = Self { head, tail, total, encoding: Encoding::Utf8 };
        if kept.is_text(record) { kept } else { Self { encoding: Encoding::Base64, ..kept } }
    }

    /// The offsets between which bytes were left out.
    pub(super) fn gap(&self) -> Option<(u64, u64)> {
        (self.head < self.tail).then_some((self.head, self.tail))
    }

    /// How many bytes are shown.
    fn shown(&self) -> u64 {
        self.head + (self.total - self.tail)
    }

    fn is_text(&self, record: &Record) -> bool {
        let mut at = 0;
        loop {
            let piece = self.piece(record, at);
            match std::str::from_utf8(&piece) {
                Ok("") => return true,
                Ok(text) => at += text.len() as u64,
                Err(_not_text) => return false,
            }
        }
    }

    /// What is written next when `at` bytes have been: whole characters, or whole threes.
    fn piece(&self, record: &Record, at: u64) -> Vec<u8> {
        let mut piece = Vec::new();
        while piece.len() < PIECE {
            let at = at + piece.len() as u64;
            let (from, until) = if at < self.head {
                (at, self.head)
            } else {
                (at + (self.tail - self.head), self.total)
            };
            let left = usize::try_from(until.saturating_sub(from)).unwrap_or(usize::MAX);
            let data = read(record, from, left.min(PIECE - piece.len()));
            if data.is_empty() {
                break;
            }
            piece.extend_from_slice(&data);
        }
        let is_last = at + piece.len() as u64 == self.shown();
        if self.encoding == Encoding::Utf8 && !is_last {
            piece.truncate(whole_characters(&piece));
        }
        piece
    }
}

/// A place in what is shown of a stream.
#[derive(Debug)]
pub(super) struct Writer {
    kept: Kept,
    at: u64,
}

impl Writer {
    /// The beginning.
    pub(super) fn new(kept: Kept) -> Self {
        Self { kept, at: 0 }
    }

    /// Adds the next piece to `json`, as the inside of a string, and says whether there was one.
    pub(super) fn write_next(&mut self, record: &Record, json: &mut String) -> bool {
        let piece = self.kept.piece(record, self.at);
        self.at += piece.len() as u64;
        match self.kept.encoding {
            Encoding::Utf8 => push_escaped(json, &String::from_utf8_lossy(&piece)),
            Encoding::Base64 => STANDARD.encode_string(&piece, json),
        }
        !piece.is_empty()
    }
}

fn push_escaped(json: &mut String, text: &str) {
    let quoted = Value::from(text).to_string();
    let inside = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    json.push_str(inside.unwrap_or_default());
}

fn read(record: &Record, from: u64, limit: usize) -> bytes::Bytes {
    match record.read(from, limit) {
        Piece::Data(data) => data,
        Piece::Gap { .. } | Piece::Nothing => bytes::Bytes::new(),
    }
}

/// The length of `data` without a character that is cut at its end.
fn whole_characters(data: &[u8]) -> usize {
    // The last character begins at most three bytes before the last one.
    let begin = data.iter().rev().take(CHARACTER).position(|byte| !is_continuation(*byte));
    let last = begin.map_or(data.len(), |back| data.len() - back - 1);
    let cut = data.get(last..).is_some_and(|last| {
        std::str::from_utf8(last).is_err_and(|error| error.error_len().is_none())
    });
    if cut { last } else { data.len() }
}

/// How many bytes at the beginning belong to a character that began before.
fn continuation_bytes(data: &[u8]) -> usize {
    data.iter().take_while(|byte| is_continuation(**byte)).count()
}

fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervise::output::{budget::Budget, record::Keep};

    /// What is shown of a stream, decoded, how it was written, and the gap.
    fn shown(stream: &[u8], keep: Keep) -> (Vec<u8>, Encoding, Option<(u64, u64)>) {
        let mut record = Record::new(keep, &Budget::new(usize::MAX));
        stream.chunks(1000).for_each(|chunk| record.push(chunk));
        let kept = Kept::of(&record);
        assert_eq!(kept.total, stream.len() as u64);
        let (mut writer, mut json) = (Writer::new(kept), String::from("\""));
        while writer.write_next(&record, &mut json) {}
        let text: String = serde_json::from_str(&(json + "\"")).unwrap();
        let bytes = match kept.encoding {
            Encoding::Utf8 => text.into_bytes(),
            Encoding::Base64 => STANDARD.decode(text).unwrap(),
        };
        (bytes, kept.encoding, kept.gap())
    }

    #[test]
    fn what_is_whole_has_no_gap() {
        for head in [0, 4, 10, 99] {
            let whole = shown(b"012\"\\\n6789", Keep { head, tail: 99 });
            assert_eq!(whole, (b"012\"\\\n6789".to_vec(), Encoding::Utf8, None));
        }
        assert_eq!(shown(b"", Keep::both_ends(9)), (Vec::new(), Encoding::Utf8, None));
    }

    #[test]
    fn a_gap_is_stated() {
        let (text, _, gap) = shown(b"0123456789abcdef", Keep { head: 3, tail: 3 });
        assert_eq!((text, gap), (b"012def".to_vec(), Some((3, 13))));
        assert_eq!(shown(b"012", Keep::tail(0)).2, Some((0, 3)));
    }

    #[test]
    fn the_gap_takes_whole_characters() {
        let (text, encoding, gap) = shown("aäöü€€€üöä".as_bytes(), Keep { head: 4, tail: 4 });
        assert_eq!((text, encoding, gap), ("aäöä".into(), Encoding::Utf8, Some((3, 18))));
    }

    #[test]
    fn what_is_no_text_anywhere_is_base64_and_pieces_are_seamless() {
        assert_eq!(shown(b"\xff\x00", Keep::tail(9)).1, Encoding::Base64);
        // Seven bytes, so that the ends of pieces fall into characters.
        let mut long = "€€\u{1}".repeat(PIECE).into_bytes();
        let keep = Keep::both_ends(long.len());
        assert_eq!(shown(&long, keep), (long.clone(), Encoding::Utf8, None));
        long[3 * PIECE] = 0xff;
        assert_eq!(shown(&long, keep), (long.clone(), Encoding::Base64, None));
    }

    proptest::proptest! {
        #[test]
        fn what_is_shown_is_what_was_written_around_the_gap(
            all in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
            head in 0_usize..50,
            tail in 0_usize..50,
        ) {
            let (bytes, _, gap) = shown(&all, Keep { head, tail });
            let (from, to) = gap.unwrap_or((0, 0));
            let (from, to) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap());
            proptest::prop_assert!(from <= head && all.len() - to <= tail || gap.is_none());
            proptest::prop_assert_eq!(bytes, [&all[..from], &all[to..]].concat());
        }

        #[test]
        fn text_that_is_cut_anywhere_stays_text(text in "\\PC{0,40}", head in 0_usize..60, tail in 0_usize..60) {
            let all = text.as_bytes();
            let (bytes, encoding, gap) = shown(all, Keep { head, tail });
            proptest::prop_assert_eq!(encoding, Encoding::Utf8);
            let (from, to) = gap.unwrap_or((0, 0));
            let (from, to) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap());
            proptest::prop_assert_eq!(bytes, [&all[..from], &all[to..]].concat());
        }
    }
}
