//! SHA-256 of whole files, as header fields say it (RFC 9530): `Want-Repr-Digest` asks for it,
//! `Repr-Digest` tells it, and in an upload says what it has to be.

use std::{
    fmt,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use workspace_common::problem::Problem;

use super::transfer::CHUNK;

/// `Repr-Digest`.
pub static REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
static WANT_REPR_DIGEST: HeaderName = HeaderName::from_static("want-repr-digest");
/// The one algorithm that is offered.
pub const ALGORITHM: &str = "sha-256";

/// The SHA-256 of some content; prints as lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentDigest([u8; 32]);

impl ContentDigest {
    /// What a hasher has come to.
    pub fn of(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    /// Reads a file from its start to its end, and goes back to the start.
    ///
    /// # Errors
    /// When reading fails.
    pub fn of_file(file: &mut File) -> io::Result<Self> {
        let hasher = hash_file(file)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(Self::of(hasher))
    }

    /// The value of a `Repr-Digest` field.
    pub fn to_field(self) -> String {
        format!("{ALGORITHM}=:{}:", BASE64_STANDARD.encode(self.0))
    }

    /// What the sender of an upload says that it is. Algorithms that are not offered are ignored,
    /// as the standard wants it.
    ///
    /// # Errors
    /// `bad_digest` when there is a SHA-256 that is none.
    pub fn announced(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(value) = member(headers, &REPR_DIGEST) else { return Ok(None) };
        let base64 = value.strip_prefix(':').and_then(|value| value.strip_suffix(':'));
        let bytes = base64.and_then(|base64| BASE64_STANDARD.decode(base64).ok());
        let digest = bytes.and_then(|bytes| bytes.try_into().ok()).map(Self);
        digest.map(Some).ok_or_else(|| {
            let detail = "Repr-Digest has to be sha-256=:BASE64: with the 32 bytes of a SHA-256";
            Problem::bad_request("bad_digest", detail)
        })
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Whether the answer is to have a digest: any preference but 0 for the algorithm.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    member(headers, &WANT_REPR_DIGEST).is_some_and(|preference| preference != "0")
}

/// Hashes a file from its start to its end.
///
/// # Errors
/// When reading fails.
pub fn hash_file(file: &mut File) -> io::Result<Sha256> {
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = file.read(&mut buffer)?;
        match buffer.get(..length) {
            Some(bytes) if length > 0 => hasher.update(bytes),
            _ => return Ok(hasher),
        }
    }
}

/// The value of the algorithm in a dictionary (RFC 9651), without its parameters; the last one
/// counts.
fn member(headers: &HeaderMap, field: &HeaderName) -> Option<String> {
    let lines = headers.get_all(field).iter().filter_map(|line| line.to_str().ok());
    let members = lines.flat_map(|line| line.split(','));
    let mut values = members.filter_map(|member| {
        let member = member.split(';').next().unwrap_or_default().trim();
        let (key, value) = member.split_once('=').unwrap_or((member, "1"));
        (key == ALGORITHM).then(|| value.to_owned())
    });
    values.next_back()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(field: &HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(field, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn a_digest_is_written_and_read_as_the_standard_has_it() {
        let digest = ContentDigest::of(Sha256::new_with_prefix(b"hello\n"));
        let hex = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(digest.to_string(), hex);
        let field = digest.to_field();
        assert_eq!(field, "sha-256=:WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=:");
        for value in [field.clone(), format!("sha-512=:AA==:, {field}"), format!("{field};x=1")] {
            let read = ContentDigest::announced(&headers(&REPR_DIGEST, &value)).unwrap();
            assert_eq!(read, Some(digest), "{value}");
        }
        assert_eq!(ContentDigest::announced(&HeaderMap::new()), Ok(None));
        assert_eq!(ContentDigest::announced(&headers(&REPR_DIGEST, "md5=:AA==:")), Ok(None));
        for bad in ["sha-256", "sha-256=AA==", "sha-256=::", "sha-256=:AA==:", "sha-256=:*:"] {
            let refused = ContentDigest::announced(&headers(&REPR_DIGEST, bad)).unwrap_err();
            assert_eq!(refused.code, "bad_digest", "{bad}");
        }
    }

    #[test]
    fn it_is_wanted_unless_the_preference_is_zero_or_for_something_else() {
        for (value, expected) in [
            ("sha-256=1", true),
            ("sha-512=3, sha-256=10", true),
            ("sha-256", true),
            ("sha-256=0", false),
            ("sha-512=1", false),
        ] {
            assert_eq!(is_wanted(&headers(&WANT_REPR_DIGEST, value)), expected, "{value}");
        }
        assert!(!is_wanted(&HeaderMap::new()));
    }

    proptest! {
        #[test]
        fn any_value_is_read_or_refused(value in "[ -~]{0,60}") {
            let _either = ContentDigest::announced(&headers(&REPR_DIGEST, &value));
        }
    }
}
