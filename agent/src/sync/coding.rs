//! Compression of trees on the way: zstd where both ends want it, nothing otherwise. Over a Unix
//! socket it only costs time; over a network its fastest levels send text in a third of the bytes.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use workspace_common::{body::BoxError, problem::Problem};

use crate::files::transfer::{CHUNK, Intake, Outlet, TakeError, TakeFile, take_by_copy};

/// The level that keeps up with a network on one core. The Makefile leaves out what only higher ones need.
const LEVEL: i32 = 1;
/// Largest window that is unpacked, as a power of two: 8 MiB. A sender may ask for 2 GiB of our
/// memory otherwise; ours asks for less than one.
const MAX_WINDOW_LOG: u32 = 23;

/// How a body is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Not at all.
    Plain,
    /// As a zstd frame (RFC 8878).
    Zstd,
}

impl Coding {
    /// The coding of a request's body.
    ///
    /// # Errors
    /// 415 when it is another one.
    pub fn of_body(headers: &HeaderMap) -> Result<Self, Problem> {
        match headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
            None | Some(b"identity") => Ok(Self::Plain),
            Some(b"zstd") => Ok(Self::Zstd),
            Some(other) => Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                format!(
                    "the body is coded as '{}'; 'zstd' and 'identity' are understood",
                    String::from_utf8_lossy(other)
                ),
            )),
        }
    }

    /// The coding that the client of a request wants for the answer.
    pub fn wanted(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(header::ACCEPT_ENCODING).into_iter();
        let mut codings =
            accepted.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
        let is_zstd = |coding: &str| {
            let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
            let refused = matches!(quality.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000");
            name.trim().eq_ignore_ascii_case("zstd") && !refused
        };
        if codings.any(is_zstd) { Self::Zstd } else { Self::Plain }
    }

    /// Says so in the headers of a message with a body of this coding.
    pub fn declare(self, headers: &mut HeaderMap) {
        if self == Self::Zstd {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("zstd"));
        }
    }

    /// Codes what is written, on its way to `outlet`.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn encode(self, outlet: Outlet) -> io::Result<Encoder> {
        Ok(match self {
            Self::Plain => Encoder::Plain(outlet),
            Self::Zstd => Encoder::Zstd(zstd::stream::write::Encoder::new(outlet, LEVEL)?),
        })
    }

    /// Decodes what is read from `intake`.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn decode(self, intake: Intake) -> io::Result<Box<dyn BufRead + Send>> {
        Ok(match self {
            Self::Plain => Box::new(intake),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(intake)?;
                decoder.window_log_max(MAX_WINDOW_LOG)?;
                Box::new(BufReader::with_capacity(CHUNK, decoder))
            }
        })
    }
}

/// The blocking end of a download, with its coding.
#[expect(missing_debug_implementations, reason = "the encoder of zstd has none")]
pub enum Encoder {
    /// As it is.
    Plain(Outlet),
    /// Compressed.
    Zstd(zstd::stream::write::Encoder<'static, Outlet>),
}

impl Encoder {
    /// Sends what is buffered and the end.
    ///
    /// # Errors
    /// When the receiver is gone.
    pub fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(outlet) => outlet.finish(),
            Self::Zstd(encoder) => encoder.finish()?.finish(),
        }
    }

    /// Ends the body with an error.
    pub fn fail(self, error: impl Into<BoxError>) {
        match self {
            Self::Plain(outlet) => outlet.fail(error),
            Self::Zstd(encoder) => encoder.get_ref().fail(error),
        }
    }
}

impl TakeFile for Encoder {
    fn take_file(&mut self, file: &File, limit: u64) -> Result<usize, TakeError> {
        match self {
            Self::Plain(outlet) => outlet.take_file(file, limit),
            Self::Zstd(encoder) => take_by_copy(encoder, file, limit),
        }
    }
}

impl Write for Encoder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(outlet) => outlet.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(outlet) => outlet.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_says_whether_it_wants_zstd() {
        for (value, expected) in [
            ("zstd", Coding::Zstd),
            ("gzip, ZSTD;q=0.5", Coding::Zstd),
            ("gzip, zstd;q=0", Coding::Plain),
            ("gzip", Coding::Plain),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
            assert_eq!(Coding::wanted(&headers), expected, "{value}");
        }
        assert_eq!(Coding::wanted(&HeaderMap::new()), Coding::Plain);
    }
}
