//! What an agent tells about a command, in one form whatever it came in: lines of JSON, frames, or
//! the messages of an attached connection. Pure.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;

use super::{ending::Exit, failure::Failure};
use crate::exec::frame::{Frame, FrameError, Kind};

/// What came of each limit that was asked for, by its name.
pub(crate) type Limits = BTreeMap<String, String>;

/// One thing told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// The command runs.
    Started { id: String, limits: Limits },
    /// This connection is attached to it.
    Attached { tty: bool },
    /// It wrote.
    Output { stream: Kind, offset: u64, bytes: Bytes },
    /// What it wrote there is not to be had.
    Gap { stream: Kind, from: u64, to: u64 },
    /// It has ended.
    Exited(Exit),
    /// Nothing more is told, and it has not ended.
    Open,
    /// Its end is not known.
    Failed { detail: String },
    /// Something that a later agent tells.
    Other,
}

/// An event as it is written.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event {
    Started {
        id: String,
        #[serde(default)]
        limits: Limits,
    },
    Attached {
        tty: bool,
    },
    Stdout(Text),
    Stderr(Text),
    Pty(Text),
    Gap {
        stream: Kind,
        from: u64,
        to: u64,
    },
    Exited(Exit),
    Open,
    Error {
        detail: String,
    },
    #[serde(other)]
    Other,
}

/// Output in an event.
#[derive(Deserialize)]
struct Text {
    offset: u64,
    data: Option<String>,
    data_base64: Option<String>,
}

impl Told {
    /// Reads the JSON of an event.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, Failure> {
        let (stream, text) = match serde_json::from_slice(json)? {
            Event::Stdout(text) => (Kind::Stdout, text),
            Event::Stderr(text) => (Kind::Stderr, text),
            Event::Pty(text) => (Kind::Pty, text),
            Event::Started { id, limits } => return Ok(Self::Started { id, limits }),
            Event::Attached { tty } => return Ok(Self::Attached { tty }),
            Event::Gap { stream, from, to } => return Ok(Self::Gap { stream, from, to }),
            Event::Exited(exit) => return Ok(Self::Exited(exit)),
            Event::Open => return Ok(Self::Open),
            Event::Error { detail } => return Ok(Self::Failed { detail }),
            Event::Other => return Ok(Self::Other),
        };
        Ok(Self::Output { stream, offset: text.offset, bytes: text.bytes()? })
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// When the event in it is none.
    pub(crate) fn from_frame(frame: Frame) -> Result<Self, Failure> {
        match frame {
            Frame::Event(json) => Self::from_json(&json),
            Frame::Data { kind: stream, offset, bytes } => {
                Ok(Self::Output { stream, offset, bytes })
            }
        }
    }
}

impl Text {
    fn bytes(self) -> Result<Bytes, Failure> {
        if let Some(text) = self.data_base64 {
            let bytes = STANDARD.decode(text).map_err(|error| Failure::Lost(error.to_string()))?;
            return Ok(bytes.into());
        }
        Ok(self.data.unwrap_or_default().into())
    }
}

impl From<FrameError> for Failure {
    fn from(error: FrameError) -> Self {
        Self::Lost(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(json: &str) -> Told {
        Told::from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn output_is_the_same_whatever_carries_it() {
        let bytes = Bytes::from_static(b"\xc3\xa4");
        let output = |stream| Told::Output { stream, offset: 7, bytes: bytes.clone() };
        for (name, kind) in [("stdout", Kind::Stdout), ("stderr", Kind::Stderr), ("pty", Kind::Pty)]
        {
            let text = format!(r#"{{"event":"{name}","offset":7,"data":"ä"}}"#);
            assert_eq!(told(&text), output(kind));
            let base64 = format!(r#"{{"event":"{name}","offset":7,"data_base64":"w6Q="}}"#);
            assert_eq!(told(&base64), output(kind));
            let frame = Frame::Data { kind, offset: 7, bytes: bytes.clone() };
            assert_eq!(Told::from_frame(frame).unwrap(), output(kind));
        }
    }

    #[test]
    fn events_are_understood_and_those_of_later_agents_passed_over() {
        let limits = Limits::from([("pids".into(), "not applied: no cgroup".into())]);
        assert_eq!(
            told(
                r#"{"event":"started","id":"a","pid":1,"limits":{"pids":"not applied: no cgroup"}}"#
            ),
            Told::Started { id: "a".into(), limits }
        );
        assert_eq!(
            told(r#"{"event":"gap","stream":"pty","from":1,"to":9}"#),
            Told::Gap { stream: Kind::Pty, from: 1, to: 9 }
        );
        assert_eq!(told(r#"{"event":"open"}"#), Told::Open);
        assert_eq!(
            told(r#"{"event":"attached","id":"a","tty":true}"#),
            Told::Attached { tty: true }
        );
        assert_eq!(told(r#"{"event":"weather","wind":3}"#), Told::Other);
        for bad in ["", "[]", r#"{"id":"a"}"#, r#"{"event":"gap","stream":"x","from":1,"to":2}"#] {
            assert!(Told::from_json(bad.as_bytes()).is_err(), "{bad}");
        }
        let bad = br#"{"event":"stdout","offset":0,"data_base64":"!"}"#;
        assert!(Told::from_json(bad).is_err());
    }
}
