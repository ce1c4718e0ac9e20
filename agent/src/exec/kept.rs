//! The output in a buffered reply: the beginning and the end that were kept, with the gap between
//! them stated. Pure.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// What is shown of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// The bytes as text, encoded as `encoding` says.
    pub(super) text: String,
    /// `utf-8` or `base64`.
    pub(super) encoding: &'static str,
    /// How many bytes the command wrote.
    pub(super) total: u64,
    /// The offsets between which bytes were left out.
    pub(super) gap: Option<(u64, u64)>,
}

/// What is shown of a stream of `total` bytes that begins with `head` and ends with `tail`: as text
/// where it is text. A character is not cut by the gap; what is left of it joins the gap.
pub(super) fn kept(head: &[u8], tail: &[u8], total: u64) -> Kept {
    if (head.len() + tail.len()) as u64 == total {
        return encode([head, tail].concat(), total, None);
    }
    let head = head.get(..whole_characters(head)).unwrap_or_default();
    let tail = tail.split_at(continuation_bytes(tail)).1;
    let gap = (head.len() as u64, total - tail.len() as u64);
    encode([head, tail].concat(), total, Some(gap))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_whole_has_no_gap() {
        let whole = kept(b"0123", b"456789", 10);
        assert_eq!((whole.text.as_str(), whole.total, whole.gap), ("0123456789", 10, None));
        assert_eq!(kept(b"", b"", 0).text, "");
    }

    #[test]
    fn a_gap_is_stated() {
        let cut = kept(b"012", b"def", 16);
        assert_eq!((cut.text.as_str(), cut.total, cut.gap), ("012def", 16, Some((3, 13))));
        assert_eq!(kept(b"", b"", 3).gap, Some((0, 3)));
    }

    #[test]
    fn the_gap_takes_whole_characters() {
        let all = "aäöü€€€üöä".as_bytes();
        let cut = kept(&all[..4], &all[all.len() - 4..], all.len() as u64);
        assert_eq!((cut.text.as_str(), cut.encoding), ("aäöä", "utf-8"));
        assert_eq!(cut.gap, Some((3, 18)));
    }

    #[test]
    fn what_is_not_text_is_base64() {
        let bytes = kept(b"\xff\x00", b"", 2);
        assert_eq!((bytes.text.as_str(), bytes.encoding), ("/wA=", "base64"));
    }

    proptest::proptest! {
        #[test]
        fn text_that_is_cut_anywhere_stays_text(text in "\\PC{0,40}", head in 0_usize..60, tail in 0_usize..60) {
            let all = text.as_bytes();
            let head = head.min(all.len());
            let tail = tail.min(all.len() - head);
            let kept = kept(&all[..head], &all[all.len() - tail..], all.len() as u64);
            proptest::prop_assert_eq!(kept.encoding, "utf-8");
            let (from, to) = kept.gap.unwrap_or((0, 0));
            let (from, to) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap());
            let expected = [&all[..from], &all[to..]].concat();
            proptest::prop_assert_eq!(kept.text.into_bytes(), expected);
        }
    }
}
