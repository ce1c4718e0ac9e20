//! Extended header records of tar (POSIX.1-2017, pax, "pax Extended Header"): what does not fit the
//! 512-byte header travels as `LENGTH KEY=VALUE\n`.
//!
//! Pure. Read here and not by the tar crate because that splits records at line feeds, and a file
//! name may contain one; the length says where a record ends.

use crate::files::metadata::FileTime;

/// Nanoseconds have nine digits.
const FRACTION_DIGITS: usize = 9;
const NANOSECONDS: u32 = 1_000_000_000;

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The keyword.
    pub key: &'a [u8],
    /// The value, any bytes.
    pub value: &'a [u8],
}

/// The block is not a sequence of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its extended header is malformed")]
pub struct MalformedRecord;

/// Splits a block into its records.
///
/// # Errors
/// When a length is not a number or does not end at a line feed, or a record has no `=`.
pub fn parse(mut block: &[u8]) -> Result<Vec<Record<'_>>, MalformedRecord> {
    let mut records = Vec::new();
    while !block.is_empty() {
        let (record, rest) = split_first(block).ok_or(MalformedRecord)?;
        records.push(record);
        block = rest;
    }
    Ok(records)
}

fn split_first(block: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let space = block.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(parse_number(block.get(..space)?)?).ok()?;
    let (record, rest) = block.split_at_checked(length)?;
    let content = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = content.iter().position(|byte| *byte == b'=')?;
    Some((Record { key: content.get(..equals)?, value: content.get(equals + 1..)? }, rest))
}

/// Appends a record. Its length counts its own digits, hence the search.
pub fn append(block: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    block.extend_from_slice(format!("{length} {key}=").as_bytes());
    block.extend_from_slice(value);
    block.push(b'\n');
}

/// Reads a decimal number without sign.
pub fn parse_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Reads a time: seconds, possibly negative, possibly with a fraction. Digits beyond nanoseconds
/// are dropped.
pub fn parse_time(value: &[u8]) -> Option<FileTime> {
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(parse_number(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or(b"0");
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let padded = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(FRACTION_DIGITS);
    let nanoseconds = padded.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanoseconds) {
        (false, _) => FileTime { seconds, nanoseconds },
        (true, 0) => FileTime { seconds: -seconds, nanoseconds },
        (true, _) => FileTime { seconds: -seconds - 1, nanoseconds: NANOSECONDS - nanoseconds },
    })
}

/// Writes a time so that [`parse_time`] gives it back.
pub fn format_time(time: FileTime) -> String {
    let FileTime { seconds, nanoseconds } = time;
    match nanoseconds {
        0 => seconds.to_string(),
        _ if seconds < 0 => {
            let whole = (seconds + 1).unsigned_abs();
            format!("-{whole}.{:09}", NANOSECONDS - nanoseconds)
        }
        _ => format!("{seconds}.{nanoseconds:09}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_the_standard_is_read_and_written() {
        let block = b"25 ctime=1084839148.1212\n";
        let expected = Record { key: b"ctime", value: b"1084839148.1212" };
        assert_eq!(parse(block), Ok(vec![expected]));
        let mut written = Vec::new();
        append(&mut written, "ctime", b"1084839148.1212");
        assert_eq!(written, block);
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            "4 a=\n",
            "0 \n",
            "x a=b\n",
            "6 a=b\n7 a",
            "99 a=b\n",
            "6 a=bX",
            "6 abc\n",
            "18446744073709551616 a=b\n",
            "+6 a=b\n",
            " a=b\n",
        ] {
            assert_eq!(parse(bad.as_bytes()), Err(MalformedRecord), "{bad:?}");
        }
    }

    #[test]
    fn times_are_read_to_the_nanosecond_on_both_sides_of_1970() {
        let time = |seconds, nanoseconds| Some(FileTime { seconds, nanoseconds });
        for (text, expected) in [
            ("0", time(0, 0)),
            ("12.5", time(12, 500_000_000)),
            ("12.", time(12, 0)),
            ("1.0000000019", time(1, 1)),
            ("-1.25", time(-2, 750_000_000)),
            ("-3", time(-3, 0)),
            ("", None),
            ("-", None),
            (".5", None),
            ("1.x", None),
            ("1e5", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(parse_time(text.as_bytes()), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn records_come_back_whatever_their_bytes(
            values in proptest::collection::vec(
                ("[a-zA-Z.]{1,12}", proptest::collection::vec(any::<u8>(), 0..300)), 0..5),
        ) {
            let mut block = Vec::new();
            for (key, value) in &values {
                append(&mut block, key, value);
            }
            let parsed = parse(&block).unwrap();
            prop_assert_eq!(parsed.len(), values.len());
            for (record, (key, value)) in parsed.iter().zip(&values) {
                prop_assert_eq!(record.key, key.as_bytes());
                prop_assert_eq!(record.value, value.as_slice());
            }
        }

        #[test]
        fn times_come_back(seconds in -1_i64 << 40..1 << 40, nanoseconds in 0..NANOSECONDS) {
            let time = FileTime { seconds, nanoseconds };
            prop_assert_eq!(parse_time(format_time(time).as_bytes()), Some(time));
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(block in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _parsed = parse(&block);
            let _time = parse_time(&block);
        }
    }
}
