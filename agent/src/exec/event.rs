//! The events of a streamed reply, one JSON object a line. Pure.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Value, json};

/// Which stream an event belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Channel {
    /// Its name in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The line that an event is.
pub fn line(event: &Value) -> Bytes {
    Bytes::from(format!("{event}\n"))
}

/// Turns the bytes of one stream into events, never splitting a character between two of them.
#[derive(Debug)]
pub struct Encoder {
    channel: Channel,
    offset: u64,
    /// The beginning of a character whose rest has not come yet: at most three bytes.
    carry: Vec<u8>,
}

impl Encoder {
    /// An encoder at the beginning of `channel`.
    pub fn new(channel: Channel) -> Self {
        Self { channel, offset: 0, carry: Vec::new() }
    }

    /// The event for the next bytes, unless they only begin a character.
    pub fn push(&mut self, data: &[u8]) -> Option<Bytes> {
        let mut bytes = std::mem::take(&mut self.carry);
        bytes.extend_from_slice(data);
        if let Err(error) = std::str::from_utf8(&bytes)
            && error.error_len().is_none()
        {
            self.carry = bytes.split_off(error.valid_up_to());
        }
        self.event(&bytes)
    }

    /// The event for a character that never became whole.
    pub fn finish(&mut self) -> Option<Bytes> {
        let bytes = std::mem::take(&mut self.carry);
        self.event(&bytes)
    }

    /// How many bytes have been turned into events.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn event(&mut self, bytes: &[u8]) -> Option<Bytes> {
        if bytes.is_empty() {
            return None;
        }
        let (name, offset) = (self.channel.name(), self.offset);
        self.offset += bytes.len() as u64;
        Some(line(&match std::str::from_utf8(bytes) {
            Ok(text) => json!({"event": name, "offset": offset, "data": text}),
            Err(_) => {
                json!({"event": name, "offset": offset, "data_base64": STANDARD.encode(bytes)})
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(chunks: &[&[u8]]) -> Vec<Value> {
        let mut encoder = Encoder::new(Channel::Stdout);
        let mut lines: Vec<Bytes> = chunks.iter().filter_map(|chunk| encoder.push(chunk)).collect();
        lines.extend(encoder.finish());
        lines.iter().map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    #[test]
    fn a_character_is_never_split() {
        assert_eq!(
            events(&[b"a\xe2\x82", b"\xac", b"b"]),
            [
                json!({"event": "stdout", "offset": 0, "data": "a"}),
                json!({"event": "stdout", "offset": 1, "data": "€"}),
                json!({"event": "stdout", "offset": 4, "data": "b"}),
            ]
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_base64_and_nothing_is_lost_at_the_end() {
        assert_eq!(
            events(&[b"\xff\xfe", b"a\xe2\x82"]),
            [
                json!({"event": "stdout", "offset": 0, "data_base64": "//4="}),
                json!({"event": "stdout", "offset": 2, "data": "a"}),
                json!({"event": "stdout", "offset": 3, "data_base64": "4oI="}),
            ]
        );
    }
}
