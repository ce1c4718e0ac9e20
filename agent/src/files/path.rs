//! Paths of the workspace as clients name them: parsed once, relative, without a way up.
//!
//! Pure: nothing here touches the file system, so nothing here knows about links. The invariant of
//! [`WorkspacePath`] is that it is a list of [`Name`]s; that it also stays beneath the root once
//! links are followed is the work of [`Root`](super::Root).
//!
//! Paths are bytes. Linux names are not UTF-8, and a sync that loses the others loses data.

use std::fmt;

/// Longest name of one entry, in bytes (`NAME_MAX`, limits.h).
pub const MAX_NAME: usize = 255;
/// Longest path in bytes: `PATH_MAX` of limits.h counts the closing NUL.
pub const MAX_PATH: usize = 4095;
/// The directory in the root where uploads wait for the rest of their content.
pub const UPLOADS_DIRECTORY: &str = ".workspace-uploads";
/// Names that start so, followed by sixteen hexadecimal digits, belong to unfinished writes.
pub const TEMPORARY_PREFIX: &str = ".workspace-tmp-";

/// Why bytes are not a path of the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It starts with a slash.
    #[error("the path is absolute; name it relative to the workspace's root")]
    Absolute,
    /// A component is `..`.
    #[error("the path contains '..'")]
    ParentComponent,
    /// It contains a NUL byte.
    #[error("the path contains a NUL byte")]
    Nul,
    /// A component is longer than [`MAX_NAME`].
    #[error("a name in the path is longer than 255 bytes")]
    NameTooLong,
    /// The whole is longer than [`MAX_PATH`].
    #[error("the path is longer than 4095 bytes")]
    PathTooLong,
    /// A percent sign without two hexadecimal digits.
    #[error("a percent sign is not followed by two hexadecimal digits")]
    BadEscape,
    /// Nothing is left to name an entry with.
    #[error("the path names no entry")]
    Empty,
    /// The name is one of the agent's own temporary files.
    #[error(
        "names of the form .workspace-tmp-… and .workspace-uploads are reserved for unfinished writes"
    )]
    Reserved,
}

/// The name of one entry of a directory: not empty, not `.` or `..`, without slash or NUL.
///
/// A system call that is given a directory descriptor and a `Name` cannot leave that directory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Parses one component.
    ///
    /// # Errors
    /// When the bytes are not a name, with the reason.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PathError> {
        match bytes {
            b"" | b"." => Err(PathError::Empty),
            b".." => Err(PathError::ParentComponent),
            _ if bytes.contains(&0) => Err(PathError::Nul),
            _ if bytes.contains(&b'/') => Err(PathError::Absolute),
            _ if bytes.len() > MAX_NAME => Err(PathError::NameTooLong),
            _ => Ok(Self(bytes)),
        }
    }

    /// The bytes of the name.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether this is the name of an unfinished write of some agent or client, or of the directory
    /// of unfinished uploads. Such entries are never shown, moved or watched.
    pub fn is_temporary(self) -> bool {
        self.0 == UPLOADS_DIRECTORY.as_bytes() || self.is_unfinished_write()
    }

    /// Whether this is the name of an unfinished write alone.
    pub fn is_unfinished_write(self) -> bool {
        self.0.strip_prefix(TEMPORARY_PREFIX.as_bytes()).is_some_and(|suffix| {
            suffix.len() == 16 && suffix.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.0))
    }
}

/// A path relative to the root: names joined by single slashes; empty for the root itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WorkspacePath(Vec<u8>);

impl WorkspacePath {
    /// The root itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// Parses raw bytes, as an archive or a command line gives them. `.` and empty components are
    /// dropped (`./a//b/` is `a/b`), so that every entry has one spelling.
    ///
    /// # Errors
    /// When the path is absolute, climbs, contains NUL or is too long.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.first() == Some(&b'/') {
            return Err(PathError::Absolute);
        }
        let mut path = Self::root();
        for component in bytes.split(|byte| *byte == b'/') {
            match Name::parse(component) {
                Ok(name) => path.push(name)?,
                Err(PathError::Empty) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(path)
    }

    /// Parses the percent-encoded part of a URL path. Decoding comes first: `%2e%2e` is `..`.
    ///
    /// # Errors
    /// As [`WorkspacePath::parse`], and for malformed escapes.
    pub fn from_url(encoded: &str) -> Result<Self, PathError> {
        Self::parse(&percent_decode(encoded.as_bytes())?)
    }

    /// The path percent-encoded for a URL; slashes stay.
    pub fn to_url(&self) -> String {
        percent_encode(&self.0)
    }

    /// The bytes, without leading or trailing slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The names from the root down.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = Name<'_>> {
        self.0.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(Name)
    }

    /// The directory and the name in it, unless this is the root.
    pub fn split_last(&self) -> Option<(Self, Name<'_>)> {
        if self.is_root() {
            return None;
        }
        let mut parts = self.0.rsplitn(2, |byte| *byte == b'/');
        let name = parts.next().map(Name)?;
        Some((Self(parts.next().unwrap_or_default().to_vec()), name))
    }

    /// Goes down to the entry `name`.
    ///
    /// # Errors
    /// When the path becomes too long.
    pub fn push(&mut self, name: Name<'_>) -> Result<(), PathError> {
        let separator = usize::from(!self.is_root());
        if self.0.len() + separator + name.0.len() > MAX_PATH {
            return Err(PathError::PathTooLong);
        }
        if separator == 1 {
            self.0.push(b'/');
        }
        self.0.extend_from_slice(name.0);
        Ok(())
    }

    /// Goes up one directory; the root stays where it is.
    pub fn pop(&mut self) {
        let end = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        self.0.truncate(end);
    }

    /// Whether this is `ancestor` or lies beneath it.
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        ancestor.is_root()
            || self
                .0
                .strip_prefix(ancestor.as_bytes())
                .is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
    }
}

/// For people: `.` for the root, control characters escaped, bytes that are not UTF-8 replaced.
impl fmt::Display for WorkspacePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str(".") } else { f.write_str(&printable(&self.0)) }
    }
}

impl fmt::Debug for WorkspacePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkspacePath({self})")
    }
}

/// Bytes of a name made fit for an error message or a terminal, which obeys escape sequences.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for character in String::from_utf8_lossy(bytes).chars() {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text
}

/// Decodes `%41` escapes to bytes (RFC 3986 section 2.1), refusing malformed ones.
///
/// # Errors
/// [`PathError::BadEscape`].
pub fn percent_decode(encoded: &[u8]) -> Result<Vec<u8>, PathError> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(hex_digit).ok_or(PathError::BadEscape);
        let (high, low) = (digit()?, digit()?);
        decoded.push(high << 4 | low);
    }
    Ok(decoded)
}

/// Encodes everything but the unreserved characters of RFC 3986 and slashes.
pub fn percent_encode(bytes: &[u8]) -> String {
    let mut encoded = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(*byte));
            }
            _ => {
                encoded.push('%');
                for digit in [byte >> 4, byte & 15] {
                    let digit = char::from_digit(u32::from(digit), 16).unwrap_or('0');
                    encoded.push(digit.to_ascii_uppercase());
                }
            }
        }
    }
    encoded
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_of_an_entry_becomes_the_same_path() {
        for (given, expected) in [
            ("", ""),
            (".", ""),
            ("./", ""),
            ("a", "a"),
            ("a/", "a"),
            ("./a/b", "a/b"),
            ("a//b/./c/", "a/b/c"),
            ("a%20b", "a b"),
            ("%61", "a"),
            ("..a/b..", "..a/b.."),
        ] {
            assert_eq!(WorkspacePath::from_url(given).unwrap().as_bytes(), expected.as_bytes());
        }
    }

    #[test]
    fn what_could_leave_the_root_or_confuse_the_kernel_is_refused_with_its_reason() {
        let long_name = "n".repeat(MAX_NAME + 1);
        let long_path = "n/".repeat(MAX_PATH);
        for (given, expected) in [
            ("/", PathError::Absolute),
            ("/etc/passwd", PathError::Absolute),
            ("%2fetc", PathError::Absolute),
            ("..", PathError::ParentComponent),
            ("a/../../b", PathError::ParentComponent),
            ("%2e%2e/a", PathError::ParentComponent),
            ("a%2F..%2f..", PathError::ParentComponent),
            ("a%00b", PathError::Nul),
            ("%", PathError::BadEscape),
            ("%4", PathError::BadEscape),
            ("%zz", PathError::BadEscape),
            (&long_name, PathError::NameTooLong),
            (&long_path, PathError::PathTooLong),
        ] {
            assert_eq!(WorkspacePath::from_url(given), Err(expected), "{given}");
        }
    }

    #[test]
    fn a_name_that_is_not_utf8_survives_the_url() {
        let path = WorkspacePath::from_url("caf%E9/%FF").unwrap();
        assert_eq!(path.as_bytes(), b"caf\xe9/\xff");
        assert_eq!(path.to_url(), "caf%E9/%FF");
    }

    #[test]
    fn only_exact_temporary_names_are_reserved() {
        let is_temporary = |name: &str| Name::parse(name.as_bytes()).unwrap().is_temporary();
        assert!(is_temporary(".workspace-tmp-0123456789abcdef"));
        assert!(!is_temporary(".workspace-tmp-0123456789abcde"));
        assert!(!is_temporary(".workspace-tmp-notes"));
        assert!(!is_temporary("x.workspace-tmp-0123456789abcdef"));
        assert!(is_temporary(".workspace-uploads"));
        assert!(!is_temporary(".workspace-uploads-of-mine"));
    }

    #[test]
    fn ancestry_follows_names_and_not_letters() {
        let path = |text: &str| WorkspacePath::parse(text.as_bytes()).unwrap();
        assert!(path("a/b").starts_with(&path("a")));
        assert!(path("a").starts_with(&path("a")));
        assert!(path("a").starts_with(&path("")));
        assert!(!path("ab").starts_with(&path("a")));
    }

    #[test]
    fn a_printed_path_cannot_drive_a_terminal() {
        let path = WorkspacePath::parse(b"a\x1b[2J\nb").unwrap();
        assert_eq!(path.to_string(), "a\\u{1b}[2J\\nb");
    }

    proptest! {
        #[test]
        fn any_bytes_parse_to_a_path_without_a_way_out_or_are_refused(
            bytes in proptest::collection::vec(
                prop_oneof![Just(b'/'), Just(b'.'), Just(0_u8), Just(b'%'), any::<u8>()], 0..64),
        ) {
            if let Ok(path) = WorkspacePath::parse(&bytes) {
                prop_assert!(!path.as_bytes().starts_with(b"/"));
                for name in path.names() {
                    prop_assert_eq!(Name::parse(name.as_bytes()), Ok(name));
                }
                prop_assert_eq!(WorkspacePath::parse(path.as_bytes()), Ok(path.clone()));
                prop_assert_eq!(WorkspacePath::from_url(&path.to_url()), Ok(path));
            }
        }

        #[test]
        fn splitting_and_pushing_are_inverse(
            names in proptest::collection::vec("[a-z.]{3,8}", 1..6),
        ) {
            let path = WorkspacePath::parse(names.join("/").as_bytes()).unwrap();
            let (mut parent, name) = path.split_last().unwrap();
            prop_assert_eq!(name.as_bytes(), names.last().unwrap().as_bytes());
            parent.push(name).unwrap();
            prop_assert_eq!(&parent, &path);
            parent.pop();
            prop_assert_eq!(parent.names().count(), names.len() - 1);
        }
    }
}
