//! The events of a streamed reply, one JSON object a line. Pure.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Value, json};

/// The line that an event is.
pub fn line(event: &Value) -> Bytes {
    Bytes::from(format!("{event}\n"))
}

/// Turns the bytes of one stream into events, never splitting a character between two of them.
#[derive(Debug)]
pub struct Encoder {
    /// What the stream is called.
    name: &'static str,
    offset: u64,
    /// The beginning of a character whose rest has not come yet: at most three bytes.
    carry: Vec<u8>,
}

impl Encoder {
    /// An encoder at the byte `offset` of the stream called `name`.
    pub fn at(name: &'static str, offset: u64) -> Self {
        Self { name, offset, carry: Vec::new() }
    }

    /// The events for bytes that are gone up to `to`, the beginning of a character before them
    /// included.
    pub fn skip_to(&mut self, to: u64) -> Vec<Bytes> {
        let begun = self.finish();
        let from = std::mem::replace(&mut self.offset, to);
        let gap = json!({"event": "gap", "stream": self.name, "from": from, "to": to});
        begun.into_iter().chain([line(&gap)]).collect()
    }

    /// The events for the first bytes after a gap: the end of a character that began in it is no
    /// text, and must not make what follows it none.
    pub fn push_after_gap(&mut self, data: &[u8]) -> Vec<Bytes> {
        let continues = |byte: &&u8| (0x80..0xc0).contains(*byte);
        let orphans = data.iter().take(3).take_while(continues).count();
        let (orphans, rest) = data.split_at(orphans);
        [self.event(orphans), self.push(rest)].into_iter().flatten().collect()
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

    fn event(&mut self, bytes: &[u8]) -> Option<Bytes> {
        if bytes.is_empty() {
            return None;
        }
        let (name, offset) = (self.name, self.offset);
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
        let mut encoder = Encoder::at("stdout", 0);
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
    fn a_gap_is_stated_and_cuts_characters_where_it_begins_and_ends() {
        let mut encoder = Encoder::at("stderr", 7);
        let mut lines: Vec<Bytes> = encoder.push(b"a\xe2").into_iter().collect();
        lines.extend(encoder.skip_to(20));
        lines.extend(encoder.push_after_gap(b"\x82\xacb"));
        let events: Vec<Value> =
            lines.iter().map(|line| serde_json::from_slice(line).unwrap()).collect();
        assert_eq!(
            events,
            [
                json!({"event": "stderr", "offset": 7, "data": "a"}),
                json!({"event": "stderr", "offset": 8, "data_base64": "4g=="}),
                json!({"event": "gap", "stream": "stderr", "from": 9, "to": 20}),
                json!({"event": "stderr", "offset": 20, "data_base64": "gqw="}),
                json!({"event": "stderr", "offset": 22, "data": "b"}),
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
