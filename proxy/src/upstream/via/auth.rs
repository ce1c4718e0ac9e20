//! What this proxy says of itself to an upstream proxy, from a file.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use thiserror::Error;
use workspace_common::secret::Secret;
use zeroize::Zeroizing;

/// A file larger than this holds something else. Tickets of directory services have a few kilobytes.
const MAX_BYTES: u64 = 16 * 1024;

/// A file with `user:password`, or with a whole value such as `Bearer abc`, in one line.
#[derive(Clone, Debug)]
pub struct AuthFile(PathBuf);

/// Why the file cannot be used. Never shows what is in it.
#[derive(Debug, Error)]
pub enum AuthFileError {
    /// The file cannot be read.
    #[error("cannot read upstream proxy auth file {path}: {source}; create it or correct the path")]
    Unreadable {
        /// The path as given.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file holds nothing of the kind.
    #[error(
        "upstream proxy auth file {0} must hold one line: user:password, or a whole Proxy-Authorization value such as `Bearer abc`"
    )]
    Malformed(PathBuf),
}

impl AuthFile {
    /// Names the file.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The value for `Proxy-Authorization`. Blocks.
    ///
    /// # Errors
    /// The file cannot be read or holds no such thing.
    pub fn read(&self) -> Result<Secret<String>, AuthFileError> {
        let unreadable = |source| AuthFileError::Unreadable { path: self.0.clone(), source };
        let file = std::fs::File::open(&self.0).map_err(unreadable)?;
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        let whole = bytes.len() as u64 <= MAX_BYTES;
        let line = std::str::from_utf8(&bytes).ok().filter(|_| whole).map(str::trim);
        line.and_then(value).ok_or_else(|| AuthFileError::Malformed(self.0.clone()))
    }
}

/// A scheme holds no colon, so the two forms cannot be taken for each other.
fn value(line: &str) -> Option<Secret<String>> {
    if line.chars().any(char::is_control) {
        return None;
    }
    if let Some((scheme, credentials)) = line.split_once(' ')
        && HeaderName::try_from(scheme).is_ok()
    {
        let visible = credentials.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        return visible.then(|| Secret::new(line.to_owned()));
    }
    let (user, _password) = line.split_once(':')?;
    (!user.is_empty()).then(|| Secret::new(format!("Basic {}", STANDARD.encode(line))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> Result<String, AuthFileError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        AuthFile::new(file.path()).read().map(|value| value.expose().clone())
    }

    #[test]
    fn both_forms_are_read() {
        for (content, value) in [
            ("me:open sesame\n", "Basic bWU6b3BlbiBzZXNhbWU="),
            ("me:", "Basic bWU6"),
            ("Basic bWU6eA==", "Basic bWU6eA=="),
            ("  Bearer abc.def \n", "Bearer abc.def"),
            ("Digest a=\"b\", c=d", "Digest a=\"b\", c=d"),
        ] {
            assert_eq!(read(content.as_bytes()).unwrap(), value, "{content:?}");
        }
    }

    #[test]
    fn what_is_neither_is_refused_and_never_shown() {
        let long = vec![b'a'; 17 * 1024];
        for content in [
            &b""[..],
            b"\n",
            b"hunter2",
            b":hunter2",
            b"me:hunter2\nyou:hunter2",
            b"me:hunter2\r\nX: y",
            b"Bearer \xe4hunter2",
            "Bearer hünter2".as_bytes(),
            &long,
        ] {
            let error = read(content).unwrap_err();
            assert!(matches!(error, AuthFileError::Malformed(_)), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
        let missing = AuthFile::new(Path::new("/nonexistent/auth")).read().unwrap_err();
        assert!(missing.to_string().contains("/nonexistent/auth"), "{missing}");
    }
}
