//! Taking the fields of an object apart, with every fault noted under its path.
//!
//! Invariant: a [`FieldError`] shows keys and kinds, never a value.

use serde_json::json;
use workspace_common::secret::Secret;

use super::json::Node;

/// Keys longer than this are cut in paths, so that a misplaced secret is not repeated whole.
const MAX_KEY: usize = 64;
/// Most faults told about one document.
const MAX_ERRORS: usize = 100;

/// One fault of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// JSON Pointer (RFC 6901) of the field.
    pub path: String,
    /// Stable code.
    pub code: &'static str,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl FieldError {
    /// The fault in error documents.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        json!({ "path": self.path, "code": self.code, "message": self.message })
    }
}

/// The faults found so far.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<FieldError>);

impl Faults {
    pub(super) fn note(&mut self, path: &str, code: &'static str, message: impl Into<String>) {
        if self.0.len() < MAX_ERRORS {
            self.0.push(FieldError { path: path.to_owned(), code, message: message.into() });
        }
    }

    pub(super) fn into_result<T>(self, value: T) -> Result<T, Vec<FieldError>> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }
}

/// The path of `key` below `parent`.
pub(super) fn child(parent: &str, key: &str) -> String {
    let shown: String = key.chars().take(MAX_KEY).collect();
    format!("{parent}/{}", shown.replace('~', "~0").replace('/', "~1"))
}

/// The fields of one object that have not been taken yet.
pub(super) struct Fields<'f> {
    path: String,
    entries: Vec<(String, Node)>,
    faults: &'f mut Faults,
}

impl<'f> Fields<'f> {
    /// The fields of `node`, or a fault where it is no object.
    pub(super) fn of(node: Node, path: String, faults: &'f mut Faults) -> Option<Self> {
        let Node::Object(entries) = node else {
            faults.note(&path, "bad_type", "must be a JSON object");
            return None;
        };
        Some(Self { path, entries, faults })
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        child(&self.path, key)
    }

    pub(super) fn note(&mut self, key: &str, code: &'static str, message: impl Into<String>) {
        let path = self.path_of(key);
        self.faults.note(&path, code, message);
    }

    pub(super) fn faults(&mut self) -> &mut Faults {
        self.faults
    }

    /// Takes a field of any kind.
    pub(super) fn take(&mut self, key: &str) -> Option<Node> {
        let position = self.entries.iter().position(|(present, _)| present == key)?;
        Some(self.entries.swap_remove(position).1)
    }

    /// Takes a text.
    pub(super) fn text(&mut self, key: &str) -> Option<Secret<String>> {
        match self.take(key)? {
            Node::Text(text) => Some(text),
            _ => {
                self.note(key, "bad_type", "must be a text");
                None
            }
        }
    }

    /// Takes a whole number between `least` and `most`.
    pub(super) fn number(&mut self, key: &str, least: u64, most: u64) -> Option<u64> {
        match self.take(key)? {
            Node::Integer(number) if (least..=most).contains(&number) => Some(number),
            _ => {
                let message = format!("must be a whole number from {least} to {most}");
                self.note(key, "out_of_range", message);
                None
            }
        }
    }

    /// Takes a list of texts.
    pub(super) fn texts(&mut self, key: &str, most: usize) -> Option<Vec<Secret<String>>> {
        let Some(Node::List(items)) = self.take_list(key) else { return None };
        if items.len() > most {
            self.note(key, "too_many", format!("must have at most {most} entries"));
            return None;
        }
        let mut texts = Vec::new();
        for (position, item) in items.into_iter().enumerate() {
            if let Node::Text(text) = item {
                texts.push(text);
            } else {
                let path = child(&self.path_of(key), &position.to_string());
                self.faults.note(&path, "bad_type", "must be a text");
            }
        }
        Some(texts)
    }

    fn take_list(&mut self, key: &str) -> Option<Node> {
        let node = self.take(key)?;
        if !matches!(node, Node::List(_)) {
            self.note(key, "bad_type", "must be a list of texts");
        }
        Some(node)
    }

    /// Takes one of a few words.
    pub(super) fn word<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let known = words.iter().find(|(word, _)| word == text.expose()).map(|(_, value)| *value);
        if known.is_none() {
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.note(key, "unknown_value", format!("must be one of: {}", names.join(", ")));
        }
        known
    }

    /// Notes every field that was not taken.
    pub(super) fn finish(self) {
        for (key, _) in &self.entries {
            let path = child(&self.path, key);
            self.faults.note(&path, "unknown_field", "is not a known field; remove or correct it");
        }
    }
}
