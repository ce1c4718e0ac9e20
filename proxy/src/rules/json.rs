//! Strict JSON: what `serde_json` reads, less what two readers could read differently.
//!
//! Duplicate keys and deep nesting are refused, and texts are held as secrets from the first moment,
//! since most of them are. Errors give positions and never a value.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use thiserror::Error;
use workspace_common::secret::Secret;

/// Deepest nesting; the versioned document needs five levels.
pub(super) const MAX_DEPTH: u32 = 8;
/// Most entries of one object or list, so that the check for duplicates stays cheap.
const MAX_ENTRIES: usize = 1024;

/// A JSON value. `Debug` shows no text.
#[derive(Debug)]
pub(super) enum Node {
    Null,
    /// Either one; no field takes one.
    Bool,
    /// A number from 0 up that is whole.
    Integer(u64),
    /// Any other number; none is accepted anywhere.
    Number,
    Text(Secret<String>),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

/// Why a body is no acceptable JSON.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum JsonError {
    /// It is no JSON.
    #[error("the body is not valid JSON (line {line}, column {column})")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// It nests deeper than a rules document can.
    #[error("the body is nested deeper than {MAX_DEPTH} levels (line {line})")]
    TooDeep {
        /// Line, from 1.
        line: usize,
    },
    /// An object has the same key twice.
    #[error("an object has the same key twice (line {line}, column {column})")]
    DuplicateKey {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// An object or list has too many entries.
    #[error("an object or list has more than {MAX_ENTRIES} entries (line {line})")]
    TooMany {
        /// Line, from 1.
        line: usize,
    },
}

impl JsonError {
    /// The stable code for error documents.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Syntax { .. } => "bad_json",
            Self::TooDeep { .. } => "json_too_deep",
            Self::DuplicateKey { .. } => "duplicate_key",
            Self::TooMany { .. } => "json_too_large",
        }
    }
}

#[derive(Clone, Copy)]
enum Fault {
    Syntax,
    TooDeep,
    DuplicateKey,
    TooMany,
}

/// Reads one JSON value with nothing after it.
pub(super) fn parse(body: &[u8]) -> Result<Node, JsonError> {
    let fault = Cell::new(Fault::Syntax);
    let mut reader = serde_json::Deserializer::from_slice(body);
    let seed = Seed { depth: 0, fault: &fault };
    let outcome = seed.deserialize(&mut reader).and_then(|node| reader.end().map(|()| node));
    outcome.map_err(|error| {
        let (line, column) = (error.line(), error.column());
        match fault.get() {
            Fault::Syntax => JsonError::Syntax { line, column },
            Fault::TooDeep => JsonError::TooDeep { line },
            Fault::DuplicateKey => JsonError::DuplicateKey { line, column },
            Fault::TooMany => JsonError::TooMany { line },
        }
    })
}

/// Builds a [`Node`]; notes the kind of a fault aside, since the error type carries text only.
#[derive(Clone, Copy)]
struct Seed<'a> {
    depth: u32,
    fault: &'a Cell<Fault>,
}

impl Seed<'_> {
    fn fail<E: serde::de::Error>(self, fault: Fault) -> E {
        self.fault.set(fault);
        E::custom("refused")
    }

    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(self.fail(Fault::TooDeep));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, _value: bool) -> Result<Node, E> {
        Ok(Node::Bool)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Integer(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(u64::try_from(value).map_or(Node::Number, Node::Integer))
    }

    fn visit_f64<E>(self, _value: f64) -> Result<Node, E> {
        Ok(Node::Number)
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(Secret::new(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(Secret::new(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            if list.len() >= MAX_ENTRIES {
                return Err(self.fail(Fault::TooMany));
            }
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let inner = self.deeper()?;
        let mut object: Vec<(String, Node)> = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.iter().any(|(present, _)| *present == key) {
                return Err(self.fail(Fault::DuplicateKey));
            }
            if object.len() >= MAX_ENTRIES {
                return Err(self.fail(Fault::TooMany));
            }
            object.push((key, entries.next_value_seed(inner)?));
        }
        Ok(Node::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(body: &[u8]) -> &'static str {
        parse(body).unwrap_err().code()
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for body in [
            &b""[..],
            b"nope",
            b"{",
            b"{}}",
            b"{} {}",
            b"[1,]",
            b"NaN",
            b"{\"a\":NaN}",
            b"{'a':1}",
            b"\xef\xbb\xbf{}",
            b"\"\\ud800\"",
            b"\"\xff\"",
            b"{\"a\":1 // x\n}",
        ] {
            assert_eq!(code(body), "bad_json", "{body:?}");
        }
    }

    #[test]
    fn duplicate_keys_are_refused_in_every_spelling_and_depth() {
        assert_eq!(code(br#"{"a":1,"a":1}"#), "duplicate_key");
        assert_eq!(code(br#"{"x":[{"a":1,"\u0061":2}]}"#), "duplicate_key");
        assert!(parse(br#"{"a":{"a":1},"b":{"a":1}}"#).is_ok());
    }

    #[test]
    fn deep_nesting_is_refused_before_it_costs_anything() {
        assert_eq!(code(&b"[".repeat(100_000)), "json_too_deep");
        assert_eq!(code(&b"{\"a\":".repeat(10_000)), "json_too_deep");
        let eight = [b"[".repeat(8), b"]".repeat(8)].concat();
        assert!(parse(&eight).is_ok());
        assert_eq!(code(&[b"[".repeat(9), b"]".repeat(9)].concat()), "json_too_deep");
    }

    #[test]
    fn debug_shows_no_text() {
        let node = parse(br#"{"a":["SECRET"]}"#).unwrap();
        assert!(!format!("{node:?}").contains("SECRET"));
    }
}
