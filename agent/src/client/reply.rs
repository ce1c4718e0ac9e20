//! A reply that goes on while a command runs, cut into what it tells. The agent chooses the form:
//! an older one knows lines of JSON only.

use bytes::BytesMut;
use http::{Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{
    event::Told,
    failure::{Failure, Fate},
};
use crate::exec::frame::{Decoder, FRAMES};

/// The longest event line that is read.
const MAX_LINE: usize = 16 << 20;

/// A reply under way.
#[derive(Debug)]
pub(super) struct Reply {
    body: Incoming,
    form: Form,
    fate: Fate,
}

#[derive(Debug)]
enum Form {
    Lines(Lines),
    Frames(Decoder),
}

impl Reply {
    /// Reads `answer`. `fate` is the command's if it breaks off.
    pub(super) fn new(answer: Response<Incoming>, fate: Fate) -> Self {
        let framed = answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == FRAMES);
        let form =
            if framed { Form::Frames(Decoder::default()) } else { Form::Lines(Lines::default()) };
        Self { body: answer.into_body(), form, fate }
    }

    /// The next thing told. Safe to cancel: what has come is kept.
    ///
    /// # Errors
    /// When the reply breaks off, or is not understood.
    pub(super) async fn next(&mut self) -> Result<Told, Failure> {
        loop {
            if let Some(told) = self.form.take()? {
                return Ok(told);
            }
            let Some(Ok(frame)) = self.body.frame().await else {
                return Err(Failure::CutShort(self.fate));
            };
            if let Ok(data) = frame.into_data() {
                self.form.push(&data);
            }
        }
    }
}

impl Form {
    fn push(&mut self, data: &[u8]) {
        match self {
            Self::Lines(lines) => lines.buffer.extend_from_slice(data),
            Self::Frames(decoder) => decoder.push(data),
        }
    }

    fn take(&mut self) -> Result<Option<Told>, Failure> {
        match self {
            Self::Lines(lines) => lines.take()?.map(|line| Told::from_json(&line)).transpose(),
            Self::Frames(decoder) => decoder.next_frame()?.map(Told::from_frame).transpose(),
        }
    }
}

/// Cuts bytes into lines.
#[derive(Debug, Default)]
struct Lines {
    buffer: BytesMut,
    searched: usize,
}

impl Lines {
    fn take(&mut self) -> Result<Option<BytesMut>, Failure> {
        let fresh = self.buffer.get(self.searched..).unwrap_or_default();
        if let Some(at) = fresh.iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(self.searched + at + 1);
            self.searched = 0;
            return Ok(Some(line));
        }
        self.searched = self.buffer.len();
        if self.searched > MAX_LINE {
            return Err(Failure::Lost("an event is too long".to_owned()));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_whatever_the_cuts() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for piece in ["a", "b\n\nc", "", "\n", "d"] {
            lines.buffer.extend_from_slice(piece.as_bytes());
            while let Some(line) = lines.take().unwrap() {
                seen.push(String::from_utf8(line.to_vec()).unwrap());
            }
        }
        assert_eq!(seen, ["ab\n", "\n", "c\n"]);
    }

    #[test]
    fn a_line_without_an_end_is_not_read_for_ever() {
        let mut lines = Lines::default();
        lines.buffer.resize(MAX_LINE, b'x');
        assert!(lines.take().unwrap().is_none());
        lines.buffer.extend_from_slice(b"x");
        assert!(lines.take().is_err());
    }
}
