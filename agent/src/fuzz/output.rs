//! What the command line reads of an agent: frames, and events.

use bytes::Bytes;

use super::bytes;
use crate::{
    client::event::Told,
    exec::frame::{
        Decoder, Frame, FrameError, MAX_DATA, data_head, event, message_head, parse_message,
    },
};

/// All frames of a stream in pieces of this size, and why there are no more.
fn decoded(stream: &[u8], size: usize) -> (Vec<Frame>, Option<FrameError>, bool) {
    let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
    for piece in stream.chunks(size) {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error), false),
            }
        }
    }
    let whole = decoder.is_between_frames();
    (frames, None, whole)
}

fn encoded(frame: &Frame) -> Vec<u8> {
    match frame {
        Frame::Event(json) => event(json).to_vec(),
        Frame::Data { kind, offset, bytes } => {
            [&data_head(*kind, *offset, bytes.len())[..], bytes].concat()
        }
    }
}

#[test]
fn frames() {
    bytes("frames", |input| {
        let (frames, error, whole) = decoded(input, usize::MAX);
        assert_eq!(decoded(input, 1), (frames.clone(), error, whole));
        assert_eq!(decoded(input, 7), (frames.clone(), error, whole));
        let again: Vec<u8> = frames.iter().flat_map(encoded).collect();
        assert!(input.starts_with(&again));
        assert_eq!(whole, error.is_none() && again.len() == input.len());
        for frame in frames {
            if let Frame::Data { kind, offset, bytes } = &frame {
                assert!(bytes.len() <= MAX_DATA);
                let message = [&message_head(*kind, *offset)[..], bytes].concat();
                assert_eq!(parse_message(message.into()).as_ref(), Ok(&frame));
            }
            drop(Told::from_frame(frame));
        }
    });
}

#[test]
fn events() {
    bytes("events", |input| {
        for line in input.split(|byte| *byte == b'\n') {
            let told = Told::from_json(line).ok();
            let framed = Told::from_frame(Frame::Event(Bytes::copy_from_slice(line))).ok();
            assert_eq!(told, framed);
            let padded = [b"  ", line, b" \r"].concat();
            assert_eq!(told, Told::from_json(&padded).ok());
            if let Some(Told::Output { stream, offset, bytes }) = told {
                // A base64 text is longer than what it stands for, an escape is, too.
                assert!(bytes.len() <= line.len());
                let json = serde_json::json!({
                    "event": stream.name(), "offset": offset,
                    "data_base64": base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &bytes),
                });
                let again = Told::from_json(json.to_string().as_bytes()).unwrap();
                assert_eq!(again, Told::Output { stream, offset, bytes });
            }
        }
    });
}
