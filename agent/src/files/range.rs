//! `Range` (RFC 9110 section 14): which bytes of a file an answer has. Pure.
//!
//! One range is answered as such. Several, other units and what is malformed are answered with the
//! whole, which the standard permits: every client has to understand that.

use http::{HeaderMap, header};

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// Everything, as if no range was asked for.
    Whole,
    /// A part that is not empty and lies within the file.
    Part {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte.
        last: u64,
    },
    /// Nothing: the range begins behind the end. 416.
    Unsatisfiable,
}

/// What the request wants of a file of `size` bytes.
pub fn select(headers: &HeaderMap, size: u64) -> Selection {
    let mut values = headers.get_all(header::RANGE).iter();
    match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
        (Some(value), None) => parse(value).map_or(Selection::Whole, |wanted| wanted.within(size)),
        _ => Selection::Whole,
    }
}

/// A range as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// `first-last`, or `first-` with the greatest number for the last.
    Between { first: u64, last: u64 },
    /// `-length`: the last bytes.
    Suffix { length: u64 },
}

impl Wanted {
    fn within(self, size: u64) -> Selection {
        match (self, size.checked_sub(1)) {
            (Self::Between { first, last }, Some(end)) if first <= end => {
                Selection::Part { first, last: last.min(end) }
            }
            (Self::Suffix { length: 1.. }, None) => Selection::Whole,
            (Self::Suffix { length: length @ 1.. }, Some(end)) => {
                Selection::Part { first: size.saturating_sub(length), last: end }
            }
            (Self::Between { .. } | Self::Suffix { .. }, _) => Selection::Unsatisfiable,
        }
    }
}

fn parse(value: &str) -> Option<Wanted> {
    let (unit, range) = value.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    // A comma makes it several; empty members of a list do not count.
    let (first, last) = range.trim_matches([' ', '\t', ',']).split_once('-')?;
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Some(Wanted::Between { first, last }),
        (Some(first), None) if last.is_empty() => Some(Wanted::Between { first, last: u64::MAX }),
        (None, Some(length)) if first.is_empty() => Some(Wanted::Suffix { length }),
        _ => None,
    }
}

/// Digits alone; more than fit mean the greatest number, which is behind every end.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of(value: &str, size: u64) -> Selection {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_str(value).unwrap());
        select(&headers, size)
    }

    #[test]
    fn one_range_in_each_of_its_forms() {
        let part = |first, last| Selection::Part { first, last };
        for (value, size, expected) in [
            ("bytes=0-0", 10, part(0, 0)),
            ("bytes=2-5", 10, part(2, 5)),
            ("Bytes= 2-5 ", 10, part(2, 5)),
            ("bytes=2-5,", 10, part(2, 5)),
            ("bytes=2-", 10, part(2, 9)),
            ("bytes=9-999", 10, part(9, 9)),
            ("bytes=-3", 10, part(7, 9)),
            ("bytes=-300", 10, part(0, 9)),
            ("bytes=0-99999999999999999999999", 10, part(0, 9)),
            ("bytes=10-", 10, Selection::Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Selection::Unsatisfiable),
            ("bytes=-0", 10, Selection::Unsatisfiable),
            ("bytes=0-", 0, Selection::Unsatisfiable),
            ("bytes=-5", 0, Selection::Whole),
        ] {
            assert_eq!(of(value, size), expected, "{value} of {size}");
        }
    }

    #[test]
    fn several_ranges_other_units_and_nonsense_are_answered_whole() {
        for value in [
            "bytes=0-1,3-4",
            "lines=0-1",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=1 - 2",
            "bytes=0x1-2",
            "bytes=1-2-3",
            "bytes=--1",
        ] {
            assert_eq!(of(value, 10), Selection::Whole, "{value}");
        }
        let mut twice = HeaderMap::new();
        twice.append(header::RANGE, HeaderValue::from_static("bytes=0-1"));
        twice.append(header::RANGE, HeaderValue::from_static("bytes=3-4"));
        assert_eq!(select(&twice, 10), Selection::Whole);
    }

    proptest! {
        #[test]
        fn a_part_lies_within_the_file_whatever_is_asked(value in "bytes=[0-9,-]{0,24}", size in 0_u64..50) {
            match of(&value, size) {
                Selection::Part { first, last } => prop_assert!(first <= last && last < size),
                Selection::Whole | Selection::Unsatisfiable => {}
            }
        }

        #[test]
        fn any_text_is_answered(value in "[ -~]{0,40}", size in any::<u64>()) {
            let _some = of(&value, size);
        }

        #[test]
        fn what_a_client_writes_is_what_it_gets(first in 0_u64..1000, length in 1_u64..1000, more in 0_u64..1000) {
            let (last, size) = (first + length - 1, first + length + more);
            prop_assert_eq!(of(&format!("bytes={first}-{last}"), size), Selection::Part { first, last });
            prop_assert_eq!(of(&format!("bytes=-{length}"), size), Selection::Part { first: size - length, last: size - 1 });
        }
    }
}
