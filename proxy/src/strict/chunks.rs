//! Finds the end of a body in chunks (RFC 9112 section 7.1), so that what follows is known for the
//! next head. Pure, and a byte at a time, because a chunk may come in any pieces.

/// Most bytes of a size line with its extensions, and of a trailer section.
const MAX_LINE: usize = 4096;
/// Hexadecimal digits of a size; more than any body has.
const MAX_DIGITS: u8 = 15;

/// Where in the body the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size,
    Extension,
    SizeEnd,
    Data,
    DataEnd,
    DataEndLine,
    TrailerStart,
    Trailer,
    TrailerEnd,
    LastEnd,
}

/// The reader of one body.
#[derive(Clone, Copy, Debug)]
pub struct Chunks {
    at: At,
    size: u64,
    digits: u8,
    line: usize,
}

/// How far a body went in some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All of them are of the body, and it goes on.
    More,
    /// The body ended after that many of them.
    Ended(usize),
    /// The framing breaks in the byte before this position.
    Broken(usize),
}

impl Default for Chunks {
    fn default() -> Self {
        Self::new()
    }
}

impl Chunks {
    /// At the start of a body.
    #[must_use]
    pub const fn new() -> Self {
        Self { at: At::Size, size: 0, digits: 0, line: 0 }
    }

    /// Takes the next bytes of the connection.
    pub fn read(&mut self, bytes: &[u8]) -> Progress {
        let mut used = 0;
        while let Some(byte) = bytes.get(used) {
            if self.at == At::Data {
                let left = bytes.len() - used;
                let taken = usize::try_from(self.size).map_or(left, |size| size.min(left));
                used += taken;
                self.size -= taken as u64;
                if self.size == 0 {
                    self.at = At::DataEnd;
                }
                continue;
            }
            used += 1;
            match self.step(*byte) {
                Some(At::LastEnd) if *byte == b'\n' => return Progress::Ended(used),
                Some(next) => self.at = next,
                None => return Progress::Broken(used),
            }
        }
        Progress::More
    }

    /// The place after a byte of the framing; none where it may not stand.
    fn step(&mut self, byte: u8) -> Option<At> {
        self.line += 1;
        if self.line > MAX_LINE {
            return None;
        }
        match (self.at, byte) {
            (At::Size, digit) if digit.is_ascii_hexdigit() => self.digit(digit),
            (At::Size, b';') if self.digits > 0 => Some(At::Extension),
            (At::Size, b'\r') if self.digits > 0 => Some(At::SizeEnd),
            (At::Extension | At::Trailer, b'\t' | 0x20..=0x7e | 0x80..) => Some(self.at),
            (At::Extension, b'\r') => Some(At::SizeEnd),
            (At::SizeEnd, b'\n') => Some(self.sized()),
            (At::DataEnd, b'\r') => Some(At::DataEndLine),
            (At::DataEndLine, b'\n') => {
                *self = Self::new();
                Some(At::Size)
            }
            (At::TrailerStart, b'\r') => Some(At::LastEnd),
            (At::TrailerStart, 0x21..=0x7e) => Some(At::Trailer),
            (At::Trailer, b'\r') => Some(At::TrailerEnd),
            (At::TrailerEnd, b'\n') => Some(At::TrailerStart),
            (At::LastEnd, b'\n') => Some(At::LastEnd),
            _ => None,
        }
    }

    fn digit(&mut self, digit: u8) -> Option<At> {
        self.digits += 1;
        let value = u64::from(char::from(digit).to_digit(16)?);
        self.size = (self.size << 4) | value;
        (self.digits <= MAX_DIGITS).then_some(At::Size)
    }

    const fn sized(&mut self) -> At {
        self.line = 0;
        if self.size == 0 { At::TrailerStart } else { At::Data }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Progress {
        Chunks::new().read(bytes)
    }

    #[test]
    fn the_end_is_found_and_nothing_behind_it_is_taken() {
        for (body, rest) in [
            ("0\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "GET / HTTP/1.1\r\n"),
            ("A;x=\"1\";y\r\n0123456789\r\n1\r\n\n\r\n0;z\r\n\r\n", "x"),
            ("000\r\nTrailer: a\r\nOther: b\r\n\r\n", "0\r\n\r\n"),
        ] {
            let all = [body.as_bytes(), rest.as_bytes()].concat();
            assert_eq!(read(&all), Progress::Ended(body.len()), "{body:?}");
        }
        assert_eq!(read(b"5\r\nhel"), Progress::More);
    }

    #[test]
    fn framing_that_can_be_read_in_two_ways_is_broken() {
        for body in [
            "\r\n",
            "5 \r\n",
            " 5\r\n",
            "0x5\r\n",
            "+5\r\n",
            "5\n",
            "5;a\n",
            "5\rx",
            "g\r\n",
            "5\r\nhelloX",
            "5\r\nhello\n",
            "1000000000000000\r\n",
            "0\r\n\n",
            "0\r\n x: y\r\n\r\n",
            "0\r\nx: y\n\r\n",
            "5;\u{0}\r\n",
        ] {
            assert!(matches!(read(body.as_bytes()), Progress::Broken(_)), "{body:?}");
        }
        let endless = format!("5;{}", "a".repeat(MAX_LINE));
        assert!(matches!(read(endless.as_bytes()), Progress::Broken(_)));
    }

    proptest! {
        #[test]
        fn any_cut_finds_the_same_end(parts in proptest::collection::vec(1usize..40, 0..6), cut in 1usize..9) {
            let mut body: Vec<u8> = Vec::new();
            for size in parts {
                body.extend(format!("{size:x};e\r\n").bytes());
                body.extend(vec![b'\n'; size]);
                body.extend(b"\r\n");
            }
            body.extend(b"0\r\nt: 1\r\n\r\n");
            let mut chunks = Chunks::new();
            let mut seen = 0;
            for piece in body.chunks(cut) {
                match chunks.read(piece) {
                    Progress::More => seen += piece.len(),
                    Progress::Ended(used) => prop_assert_eq!(seen + used, body.len()),
                    Progress::Broken(at) => prop_assert!(false, "broken at {}", seen + at),
                }
            }
        }
    }
}
