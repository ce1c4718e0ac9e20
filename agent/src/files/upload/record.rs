//! What is known of an unfinished upload, kept beside its content so that it outlives the agent.

use serde::{Deserialize, Serialize};

use super::super::{
    conditions::Preconditions,
    digest::ContentDigest,
    path::{PathError, WorkspacePath},
    write::{Durability, WriteOptions},
};

/// Longest record that is read: a path with every byte escaped, and a head full of conditions.
pub(super) const MAX_RECORD: u64 = 256 * 1024;

/// The name of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UploadId(u64);

impl UploadId {
    pub(super) fn fresh() -> Self {
        Self(fastrand::u64(..))
    }

    /// Reads sixteen hexadecimal digits in lower case.
    pub fn parse(text: &str) -> Option<Self> {
        let digits =
            text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        digits.then(|| u64::from_str_radix(text, 16).ok().map(Self)).flatten()
    }

    /// The name of the file with its record.
    pub(super) fn record_name(self) -> String {
        format!("{self}.json")
    }
}

impl std::fmt::Display for UploadId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What was asked for when the upload began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it goes.
    pub path: WorkspacePath,
    /// How it is written.
    pub options: WriteOptions,
    /// How long it will be, where that was said.
    pub length: Option<u64>,
}

/// Its form on the disk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    /// Percent-encoded: paths are bytes.
    path: String,
    mode: Option<u32>,
    synced: bool,
    max_bytes: u64,
    conditions: Preconditions,
    expected: Option<ContentDigest>,
    length: Option<u64>,
}

/// Why a record cannot be used. Whatever runs in the workspace can write one.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error("it is not JSON as this version writes it: {0}")]
    Json(#[from] serde_json::Error),
    #[error("its path is not acceptable: {0}")]
    Path(#[from] PathError),
}

impl Record {
    pub(super) fn to_json(&self) -> String {
        let wire = Wire {
            path: self.path.to_url(),
            mode: self.options.mode,
            synced: self.options.durability == Durability::Synced,
            max_bytes: self.options.max_bytes,
            conditions: self.options.conditions.clone(),
            expected: self.options.expected,
            length: self.length,
        };
        serde_json::json!(wire).to_string()
    }

    pub(super) fn from_json(json: &[u8]) -> Result<Self, RecordError> {
        let wire: Wire = serde_json::from_slice(json)?;
        Ok(Self {
            path: WorkspacePath::from_url(&wire.path)?,
            options: WriteOptions {
                mode: wire.mode,
                durability: if wire.synced { Durability::Synced } else { Durability::Visible },
                max_bytes: wire.max_bytes,
                conditions: wire.conditions,
                expected: wire.expected,
            },
            length: wire.length,
        })
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_MATCH, HeaderValue::from_static("\"a\", W/\"b\""));
        let record = Record {
            path: WorkspacePath::parse(b"caf\xe9/x").unwrap(),
            options: WriteOptions {
                mode: Some(0o640),
                durability: Durability::Synced,
                max_bytes: 7,
                conditions: Preconditions::parse(&headers).unwrap(),
                expected: None,
            },
            length: Some(9),
        };
        assert_eq!(Record::from_json(record.to_json().as_bytes()).unwrap(), record);
        let elsewhere = record.to_json().replace("caf%E9/x", "../x");
        assert!(Record::from_json(elsewhere.as_bytes()).is_err());
    }

    #[test]
    fn ids_are_sixteen_digits() {
        assert_eq!(UploadId::parse("00000000000000ff").unwrap().to_string(), "00000000000000ff");
        for bad in ["", "ff", "00000000000000FF", "+0000000000000ff", "00000000000000ff0", "../"] {
            assert_eq!(UploadId::parse(bad), None, "{bad}");
        }
    }
}
