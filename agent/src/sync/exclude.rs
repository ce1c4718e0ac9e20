//! What a sync leaves out, by glob.
//!
//! As in a `.gitignore`: a pattern without a slash means a name at any depth; one with a slash
//! means a path from the top of the synced directory; one that ends in a slash means directories
//! alone. `*` and `?` stay within a name, `**` does not. What is in an excluded directory is
//! excluded with it.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::files::{WorkspacePath, metadata::Kind};

/// Left out unless asked for: what tools can make again, and histories, which are large and of no
/// use to the other side. Build directories such as `target`, `build` and `dist` are not here:
/// people use these names for what they want to keep.
pub const DEFAULT_EXCLUDES: [&str; 9] = [
    ".git",
    "node_modules/",
    "__pycache__/",
    ".venv/",
    "venv/",
    ".mypy_cache/",
    ".pytest_cache/",
    ".ruff_cache/",
    ".cache/",
];

/// Most patterns of one request: each costs time for every entry.
pub const MAX_PATTERNS: usize = 1000;

/// Why patterns are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExcludeError {
    /// One does not parse.
    #[error("the exclude pattern '{pattern}' is not a glob: {reason}")]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// What globset says about it.
        reason: String,
    },
    /// There are too many.
    #[error("there are more than {MAX_PATTERNS} exclude patterns")]
    TooMany,
}

/// Whether the default patterns apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defaults {
    /// They do.
    Apply,
    /// Only what the caller names is left out.
    Ignore,
}

/// Compiled patterns.
#[derive(Debug, Clone)]
pub struct Exclusions {
    names: Patterns,
    paths: Patterns,
}

#[derive(Debug, Clone, Default)]
struct Patterns {
    set: GlobSet,
    directories_only: Vec<bool>,
}

impl Exclusions {
    /// Compiles patterns.
    ///
    /// # Errors
    /// When one is not a glob, or there are too many.
    pub fn new<S: AsRef<str>>(patterns: &[S], defaults: Defaults) -> Result<Self, ExcludeError> {
        if patterns.len() > MAX_PATTERNS {
            return Err(ExcludeError::TooMany);
        }
        let defaults: &[&str] = match defaults {
            Defaults::Apply => &DEFAULT_EXCLUDES,
            Defaults::Ignore => &[],
        };
        let all = || defaults.iter().copied().chain(patterns.iter().map(AsRef::as_ref));
        let is_name = |pattern: &&str| !pattern.trim_end_matches('/').contains('/');
        Ok(Self {
            names: Patterns::compile(all().filter(is_name))?,
            paths: Patterns::compile(all().filter(|pattern| !is_name(pattern)))?,
        })
    }

    /// Whether an entry is left out.
    pub fn exclude(&self, path: &WorkspacePath, kind: Kind) -> bool {
        let name = path.names().next_back().map_or(&b""[..], |name| name.as_bytes());
        self.names.match_any(name, kind) || self.paths.match_any(path.as_bytes(), kind)
    }
}

impl Patterns {
    fn compile<'a>(patterns: impl Iterator<Item = &'a str>) -> Result<Self, ExcludeError> {
        let mut set = GlobSetBuilder::new();
        let mut directories_only = Vec::new();
        let bad = |pattern: &str, error: &globset::Error| ExcludeError::BadPattern {
            pattern: pattern.to_owned(),
            reason: error.kind().to_string(),
        };
        for pattern in patterns {
            let bare = pattern.trim_end_matches('/');
            directories_only.push(bare.len() < pattern.len());
            let glob = GlobBuilder::new(bare.strip_prefix('/').unwrap_or(bare))
                .literal_separator(true)
                .build()
                .map_err(|error| bad(pattern, &error))?;
            set.add(glob);
        }
        let set = set.build().map_err(|error| bad("all of them", &error))?;
        Ok(Self { set, directories_only })
    }

    fn match_any(&self, bytes: &[u8], kind: Kind) -> bool {
        let path = Path::new(OsStr::from_bytes(bytes));
        self.set.is_match(path)
            && self.set.matches(path).into_iter().any(|index| {
                let directory_only = self.directories_only.get(index).copied().unwrap_or(false);
                !directory_only || kind == Kind::Directory
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(patterns: &[&str], path: &[u8], kind: Kind) -> bool {
        let exclusions = Exclusions::new(patterns, Defaults::Apply).unwrap();
        exclusions.exclude(&WorkspacePath::parse(path).unwrap(), kind)
    }

    #[test]
    fn patterns_match_as_in_a_gitignore() {
        for (pattern, path, kind, expected) in [
            ("*.o", "a.o", Kind::File, true),
            ("*.o", "deep/down/a.o", Kind::File, true),
            ("*.o", "a.o.txt", Kind::File, false),
            ("/top", "top", Kind::File, true),
            ("/top", "deep/top", Kind::File, false),
            ("a/b", "a/b", Kind::File, true),
            ("a/b", "x/a/b", Kind::File, false),
            ("a/*", "a/b/c", Kind::File, false),
            ("a/**", "a/b/c", Kind::File, true),
            ("**/x/y", "a/b/x/y", Kind::File, true),
            ("logs/", "logs", Kind::Directory, true),
            ("logs/", "logs", Kind::File, false),
            ("", "node_modules", Kind::Directory, true),
            ("", "a/.git", Kind::File, true),
            ("", "target", Kind::Directory, false),
        ] {
            assert_eq!(excluded(&[pattern], path.as_bytes(), kind), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn names_that_are_not_utf8_are_matched_too() {
        assert!(excluded(&["*.bin"], b"caf\xe9.bin", Kind::File));
    }

    #[test]
    fn defaults_can_be_turned_off_and_bad_patterns_are_named() {
        let none = Exclusions::new::<&str>(&[], Defaults::Ignore).unwrap();
        assert!(!none.exclude(&WorkspacePath::parse(b".git").unwrap(), Kind::Directory));
        let error = Exclusions::new(&["a[b"], Defaults::Apply).unwrap_err();
        assert!(error.to_string().contains("'a[b'"), "{error}");
    }
}
