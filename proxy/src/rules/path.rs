//! Paths of reverse routes: which are unambiguous, and which a rule's globs match. Pure.
//!
//! A path is forwarded byte for byte. What is matched is a canonical copy: escapes of unreserved
//! characters decoded, the others in upper case (RFC 3986, section 6.2.2), so that two spellings that
//! every server takes for the same match the same glob.

use std::fmt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use thiserror::Error;

/// Longest glob accepted.
const MAX_GLOB: usize = 1024;

/// The path could be read in two ways.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a dot segment, backslash, encoded separator, control character or broken escape")]
pub struct AmbiguousPath;

/// Why a glob is not accepted.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadGlob {
    /// It does not begin with a slash.
    #[error("must begin with '/'")]
    NoSlash,
    /// It cannot match any path in canonical form, or is no glob.
    #[error("is not a glob over paths: use '*' within a segment and '**' across segments")]
    Syntax,
    /// It is over 1024 bytes.
    #[error("is longer than {MAX_GLOB} bytes")]
    TooLong,
}

/// Refuses paths that a server may read differently from a policy: `.` and `..` segments, `\`, and
/// escapes of `/`, `\`, `.` segments and control characters. `%25` passes as data, `//` is kept.
///
/// # Errors
/// The path is of that kind.
pub fn check(path: &str) -> Result<(), AmbiguousPath> {
    if path.bytes().any(|byte| byte == b'\\' || byte.is_ascii_control()) {
        return Err(AmbiguousPath);
    }
    path.split('/').try_for_each(check_segment)
}

fn check_segment(segment: &str) -> Result<(), AmbiguousPath> {
    let canonical = canonical(segment).ok_or(AmbiguousPath)?;
    let hidden_separator =
        escapes(&canonical).any(|byte| matches!(byte, b'/' | b'\\') || byte.is_ascii_control());
    // Some servers cut `;parameters` off a segment before they resolve dots.
    let name = canonical.split(';').next().unwrap_or(&canonical);
    if hidden_separator || matches!(name, "." | "..") {
        return Err(AmbiguousPath);
    }
    Ok(())
}

/// The canonical copy; `None` where an escape is broken.
fn canonical(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut copy = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        let byte = escaped(digits)?;
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            copy.push(char::from(byte));
        } else {
            copy.push('%');
            copy.push_str(&digits.to_ascii_uppercase());
        }
        copy.push_str(rest);
    }
    Some(copy)
}

fn escaped(digits: &str) -> Option<u8> {
    let plain = digits.bytes().all(|b| b.is_ascii_hexdigit());
    if plain { u8::from_str_radix(digits, 16).ok() } else { None }
}

fn escapes(canonical: &str) -> impl Iterator<Item = u8> {
    canonical.split('%').skip(1).filter_map(|part| escaped(part.get(..2)?))
}

/// The globs of a rule, over the path after the route's prefix.
#[derive(Clone)]
pub struct PathGlobs {
    patterns: Vec<String>,
    set: GlobSet,
}

impl PathGlobs {
    /// Compiles globs, each of which begins with `/`.
    ///
    /// # Errors
    /// The position of the first glob that is none, and why.
    pub fn parse(patterns: Vec<String>) -> Result<Self, (usize, BadGlob)> {
        let mut builder = GlobSetBuilder::new();
        for (position, pattern) in patterns.iter().enumerate() {
            if !pattern.starts_with('/') {
                return Err((position, BadGlob::NoSlash));
            }
            if pattern.len() > MAX_GLOB {
                return Err((position, BadGlob::TooLong));
            }
            let glob = GlobBuilder::new(pattern)
                .literal_separator(true)
                .backslash_escape(false)
                .build()
                .map_err(|_syntax| (position, BadGlob::Syntax))?;
            builder.add(glob);
        }
        let last = patterns.len().saturating_sub(1);
        let set = builder.build().map_err(|_too_big| (last, BadGlob::Syntax))?;
        Ok(Self { patterns, set })
    }

    /// Whether a path matches one of the globs.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        canonical(path).is_some_and(|path| self.set.is_match(path))
    }

    /// Whether some server might read the path as one that matches: with slashes merged and
    /// parameters cut off, or because the path is ambiguous altogether.
    #[must_use]
    pub fn match_any_reading(&self, path: &str) -> bool {
        let Some(canonical) = canonical(path).filter(|_| check(path).is_ok()) else {
            return true;
        };
        let plain = |segment: &str| segment.split(';').next().unwrap_or(segment).to_owned();
        let segments: Vec<String> =
            canonical.split('/').map(plain).filter(|segment| !segment.is_empty()).collect();
        let merged = format!("/{}", segments.join("/"));
        let closed = format!("{}/", merged.trim_end_matches('/'));
        [canonical, merged, closed].iter().any(|reading| self.set.is_match(reading))
    }

    /// The globs as given.
    #[must_use]
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }
}

/// A compiled set says nothing to a reader; the patterns do.
impl fmt::Debug for PathGlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.patterns.fmt(f)
    }
}

impl PartialEq for PathGlobs {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

impl Eq for PathGlobs {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_two_readings_are_refused() {
        for path in [
            "/..",
            "/../x",
            "/a/./b",
            "/a/.",
            "/%2e%2e/x",
            "/%2E./x",
            "/a%2fb",
            "/a%5Cb",
            "/a\\b",
            "/a%00",
            "/a%0d%0aX:1",
            "/a%7f",
            "/a%zz",
            "/a%",
            "/a%2",
            "/..;x/y",
            "/%2e%2e;/y",
        ] {
            assert_eq!(check(path), Err(AmbiguousPath), "{path}");
        }
        for path in
            ["", "/", "/a/b", "/a//b", "/%252e%252e/x", "/a..b", "/...", "/a%c0%ae", "/a:b@c"]
        {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn globs_match_the_canonical_path_and_letter_case_counts() {
        let globs = PathGlobs::parse(vec!["/repos/*".into(), "/now/**".into()]).unwrap();
        for path in ["/repos/x", "/%72epos/x", "/now/a/b/c", "/repos/a%2Fb"] {
            assert!(globs.matches(path), "{path}");
        }
        for path in ["/REPOS/x", "/repos/x/y", "/repos", "/x/repos/y", "/nowhere", "/repos/%"] {
            assert!(!globs.matches(path), "{path}");
        }
        assert!(!PathGlobs::parse(Vec::new()).unwrap().matches("/"));
    }

    #[test]
    fn a_denied_path_is_found_in_every_reading() {
        let globs = PathGlobs::parse(vec!["/admin/**".into(), "/keys".into()]).unwrap();
        for path in [
            "/admin/x",
            "//admin/x",
            "/admin//x",
            "/admin;a=b/x",
            "/%61dmin/x",
            "/x/../admin/y",
            "/keys",
            "/keys/",
            "//keys",
            "/keys;x",
            "/a%2fb",
            "/keys//",
        ] {
            assert!(globs.match_any_reading(path), "{path}");
        }
        for path in ["/", "/adminx/y", "/x/admin/y", "/Keys", "/keys/x"] {
            assert!(!globs.match_any_reading(path), "{path}");
        }
    }

    #[test]
    fn what_is_no_glob_is_refused_by_position() {
        let parse = |second: &str| PathGlobs::parse(vec!["/a".into(), second.into()]).unwrap_err();
        assert_eq!(parse("repos/*"), (1, BadGlob::NoSlash));
        assert_eq!(parse("/[a"), (1, BadGlob::Syntax));
        assert_eq!(parse(&format!("/{}", "a".repeat(MAX_GLOB))), (1, BadGlob::TooLong));
    }
}
