//! The framing of `application/vnd.workspace.frames`, both directions, for bulk output without
//! base64: one byte that names the kind, four bytes for the length of the payload (big-endian), the
//! payload. Output carries its offset in the stream as the first eight bytes of its payload. The
//! binary messages of an attached connection are the same without the length. Pure.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Deserialize;

/// The media type of a reply in frames.
pub const FRAMES: &str = "application/vnd.workspace.frames";
/// The most output that one frame carries, in bytes.
pub const MAX_DATA: usize = 16 << 20;

/// The kind of a frame whose payload is the JSON of an event.
const EVENT: u8 = 0;
/// Kind and length.
const HEAD: usize = 5;
/// The offset before the bytes of output.
const OFFSET: usize = 8;

/// Which stream a frame of output belongs to; the number is its kind on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Kind {
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
    /// What came out of a pseudo-terminal, which is both.
    Pty = 3,
}

/// One frame, or one message of an attached connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The JSON of an event.
    Event(Bytes),
    /// Output.
    Data {
        /// The stream.
        kind: Kind,
        /// Where in the stream the bytes stand.
        offset: u64,
        /// The output itself.
        bytes: Bytes,
    },
}

/// Why bytes are no frames. Nothing after them can be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No such kind.
    #[error("a frame is of the unknown kind {0}")]
    UnknownKind(u8),
    /// More than a frame may carry.
    #[error("a frame of {0} bytes is longer than any may be")]
    TooLong(usize),
    /// Output without a whole offset.
    #[error("a frame of output has {0} bytes, which is too few for its offset")]
    NoOffset(usize),
}

impl Kind {
    /// Its name in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Pty => "pty",
        }
    }

    fn from_wire(byte: u8) -> Result<Self, FrameError> {
        [Self::Stdout, Self::Stderr, Self::Pty]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
            .ok_or(FrameError::UnknownKind(byte))
    }
}

/// The frame of an event. `json` is the object without a newline, at most [`MAX_DATA`] bytes of it.
pub fn event(json: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEAD + json.len());
    frame.put_u8(EVENT);
    frame.put_u32(wire_length(json.len()));
    frame.put_slice(json);
    frame.freeze()
}

/// What stands before `len` bytes of output, at most [`MAX_DATA`]. The bytes themselves need not be
/// copied behind it.
pub fn data_head(kind: Kind, offset: u64, len: usize) -> [u8; HEAD + OFFSET] {
    let mut head = [0; HEAD + OFFSET];
    let mut rest = &mut head[..];
    rest.put_u8(kind as u8);
    rest.put_u32(wire_length(OFFSET + len));
    rest.put_u64(offset);
    head
}

/// What stands before the bytes of output in a binary message, whose length the message has already.
pub fn message_head(kind: Kind, offset: u64) -> [u8; 1 + OFFSET] {
    let mut head = [0; 1 + OFFSET];
    let mut rest = &mut head[..];
    rest.put_u8(kind as u8);
    rest.put_u64(offset);
    head
}

/// Reads a binary message of an attached connection, which is output.
///
/// # Errors
/// When it is of no known kind or has no whole offset.
pub fn parse_message(mut message: Bytes) -> Result<Frame, FrameError> {
    let kind = message.try_get_u8().map_err(|_empty| FrameError::NoOffset(0))?;
    data(Kind::from_wire(kind)?, message)
}

fn data(kind: Kind, mut payload: Bytes) -> Result<Frame, FrameError> {
    let length = payload.len();
    let offset = payload.try_get_u64().map_err(|_short| FrameError::NoOffset(length))?;
    Ok(Frame::Data { kind, offset, bytes: payload })
}

/// A length beyond four bytes is beyond what any reader takes, too: it is refused there.
fn wire_length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Cuts a byte stream into frames, however it was cut on its way. It keeps at most one unfinished
/// frame besides what was pushed last.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Adds the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame; `None` until more bytes are pushed.
    ///
    /// # Errors
    /// When the stream holds something else. A length is judged before its bytes have come.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((head, _)) = self.buffer.split_first_chunk::<HEAD>() else { return Ok(None) };
        let [kind, length @ ..] = *head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let kind = (kind != EVENT).then(|| Kind::from_wire(kind)).transpose()?;
        if length > MAX_DATA + OFFSET {
            return Err(FrameError::TooLong(length));
        }
        if self.buffer.len() < HEAD + length {
            self.buffer.reserve(HEAD + length - self.buffer.len());
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(HEAD + length).freeze();
        frame.advance(HEAD);
        match kind {
            None => Ok(Some(Frame::Event(frame))),
            Some(kind) => data(kind, frame).map(Some),
        }
    }

    /// Whether the stream may end here, between two frames.
    pub fn is_between_frames(&self) -> bool {
        self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const KINDS: [Kind; 3] = [Kind::Stdout, Kind::Stderr, Kind::Pty];

    fn encoded(frame: &Frame) -> Vec<u8> {
        match frame {
            Frame::Event(json) => event(json).to_vec(),
            Frame::Data { kind, offset, bytes } => {
                [&data_head(*kind, *offset, bytes.len())[..], bytes].concat()
            }
        }
    }

    /// All frames of a stream that comes in pieces.
    fn decoded<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Frame>, FrameError> {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.push(piece);
            while let Some(frame) = decoder.next_frame()? {
                frames.push(frame);
            }
        }
        assert!(decoder.is_between_frames());
        Ok(frames)
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let bytes = || vec(any::<u8>(), 0..200).prop_map(Bytes::from);
        let data = (0..KINDS.len(), any::<u64>(), bytes())
            .prop_map(|(kind, offset, bytes)| Frame::Data { kind: KINDS[kind], offset, bytes });
        prop_oneof![bytes().prop_map(Frame::Event), data]
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded_whatever_the_cuts(
            frames in vec(any_frame(), 0..8), size in 1_usize..64,
        ) {
            let stream: Vec<u8> = frames.iter().flat_map(encoded).collect();
            prop_assert_eq!(decoded(stream.chunks(size)).unwrap(), frames);
        }

        #[test]
        fn foreign_bytes_never_panic_and_are_never_waited_for_beyond_the_bound(
            bytes in vec(any::<u8>(), 0..64),
        ) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
            prop_assert!(decoder.buffer.capacity() <= HEAD + OFFSET + MAX_DATA + bytes.len());
            // The second answer says the same: nothing of a bad stream is skipped.
            prop_assert_eq!(decoder.next_frame(), decoder.next_frame());
            drop(parse_message(bytes.into()));
        }

        #[test]
        fn a_message_is_a_frame_without_its_length(offset: u64, bytes in vec(any::<u8>(), 0..99)) {
            for kind in KINDS {
                let message = [&message_head(kind, offset)[..], &bytes].concat();
                let bytes = Bytes::from(bytes.clone());
                prop_assert_eq!(
                    parse_message(message.into()).unwrap(),
                    Frame::Data { kind, offset, bytes }
                );
            }
        }
    }

    #[test]
    fn the_bytes_on_the_wire_are_those_of_the_description() {
        assert_eq!(event(br#"{"a":1}"#), &b"\x00\x00\x00\x00\x07{\"a\":1}"[..]);
        let head = b"\x02\x00\x00\x00\x0b\x00\x00\x00\x00\x00\x00\x01\x02";
        assert_eq!(&data_head(Kind::Stderr, 0x102, 3), head);
        assert_eq!(&message_head(Kind::Pty, 5), b"\x03\x00\x00\x00\x00\x00\x00\x00\x05");
    }

    #[test]
    fn what_is_no_frame_is_refused_with_its_reason() {
        for (bytes, expected) in [
            (&b"\x04\x00\x00\x00\x00"[..], FrameError::UnknownKind(4)),
            (b"{\"event\":", FrameError::UnknownKind(b'{')),
            (b"\x00\xff\xff\xff\xff", FrameError::TooLong(0xffff_ffff)),
            (b"\x01\x01\x00\x00\x09", FrameError::TooLong(MAX_DATA + OFFSET + 1)),
            (b"\x01\x00\x00\x00\x07\0\0\0\0\0\0\0", FrameError::NoOffset(7)),
        ] {
            assert_eq!(decoded([bytes].into_iter()), Err(expected));
        }
        assert_eq!(parse_message(Bytes::new()), Err(FrameError::NoOffset(0)));
        assert_eq!(parse_message(b"\x00{}"[..].into()), Err(FrameError::UnknownKind(0)));
        assert_eq!(parse_message(b"\x01abc"[..].into()), Err(FrameError::NoOffset(3)));
    }
}
