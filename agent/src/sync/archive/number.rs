//! Numbers in tar headers: octal digits, or binary where the first bit says so (GNU). Pure.
//!
//! Read here and not by the tar crate because that drops the bits of a binary number that do not fit,
//! its sign included, and takes a plus before digits: two programs would read two different sizes.

/// Set in the first byte of a binary number.
const BINARY: u8 = 0x80;
/// The sign of a binary number, which is a two's complement without the bit above.
const NEGATIVE: u8 = 0x40;

/// Reads a field.
pub(super) fn parse(field: &[u8]) -> Option<i64> {
    match field.split_first() {
        Some((first, rest)) if first & BINARY != 0 => binary(*first, rest),
        _ => octal(field),
    }
}

fn binary(first: u8, rest: &[u8]) -> Option<i64> {
    let start = i128::from(first & (NEGATIVE - 1)) - i128::from(first & NEGATIVE);
    // No field has more than twelve bytes.
    let bytes = rest.get(..rest.len().min(11))?;
    let number = bytes.iter().fold(start, |number, byte| number << 8 | i128::from(*byte));
    i64::try_from(number).ok()
}

/// Digits, perhaps with blanks before them, then nothing but blanks and NUL bytes.
fn octal(field: &[u8]) -> Option<i64> {
    let text = field.trim_ascii_start();
    let end = text.iter().position(|byte| !(b'0'..=b'7').contains(byte)).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    if digits.is_empty() || !rest.iter().all(|byte| matches!(byte, b' ' | 0)) {
        return None;
    }
    i64::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_as_programs_write_them() {
        for (field, expected) in [
            (&b"00000000017\0"[..], Some(15)),
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"777777777777", Some((1 << 36) - 1)),
            (b"0\0\0\0\0\0\0\0", Some(0)),
            (b"\0\0\0\0\0\0\0\0", None),
            (b"        ", None),
            (b"+0000017\0", None),
            (b"-0000017\0", None),
            (b"0000008\0", None),
            (b"12\x0034\0", None),
            (b"", None),
        ] {
            assert_eq!(parse(field), expected, "{field:?}");
        }
    }

    #[test]
    fn binary_numbers_keep_their_sign_and_are_refused_where_they_do_not_fit() {
        let field = |number: i128| {
            let mut field: [u8; 12] = std::array::from_fn(|at| number.to_be_bytes()[at + 4]);
            field[0] |= BINARY;
            field
        };
        for number in [0, 1, 511, 1 << 33, i128::from(i64::MAX), -1, -512, i128::from(i64::MIN)] {
            assert_eq!(parse(&field(number)).map(i128::from), Some(number), "{number}");
        }
        for number in [1 << 63, (1 << 64) + 7, (1 << 93) + 1, -(1 << 64), (1 << 64) - 512] {
            assert_eq!(parse(&field(number)), None, "{number}");
        }
    }
}
