//! What a sync leaves out, by glob.
//!
//! As in a `.gitignore`: a pattern without a slash means a name at any depth; one with a slash
//! means a path from the top of the synced directory; one that ends in a slash means directories
//! alone. `*` and `?` stay within a name, `**` does not. The last pattern that matches decides; one
//! that starts with `!` takes back what one before it has left out. What is in an excluded directory
//! is excluded with it, whatever comes later.

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
    meanings: Vec<Meaning>,
}

/// What a match of a pattern means.
#[derive(Debug, Clone, Copy)]
struct Meaning {
    /// Its place among all patterns: the last one wins.
    place: usize,
    excludes: bool,
    directories_only: bool,
}

impl Exclusions {
    /// Compiles patterns. Those by default come first, so that they can be taken back.
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
        let all = defaults.iter().copied().chain(patterns.iter().map(AsRef::as_ref));
        let (names, paths): (Vec<_>, Vec<_>) =
            all.enumerate().partition(|(_, pattern)| !pattern.trim_end_matches('/').contains('/'));
        Ok(Self { names: Patterns::compile(&names)?, paths: Patterns::compile(&paths)? })
    }

    /// Whether an entry is left out.
    pub fn exclude(&self, path: &WorkspacePath, kind: Kind) -> bool {
        let name = path.names().next_back().map_or(&b""[..], |name| name.as_bytes());
        let decisions = [self.names.decide(name, kind), self.paths.decide(path.as_bytes(), kind)];
        let last = decisions.into_iter().flatten().max_by_key(|meaning| meaning.place);
        last.is_some_and(|meaning| meaning.excludes)
    }
}

impl Patterns {
    fn compile(patterns: &[(usize, &str)]) -> Result<Self, ExcludeError> {
        let mut set = GlobSetBuilder::new();
        let mut meanings = Vec::new();
        let bad = |pattern: &str, error: &globset::Error| ExcludeError::BadPattern {
            pattern: pattern.to_owned(),
            reason: error.kind().to_string(),
        };
        for (place, pattern) in patterns {
            let positive = pattern.strip_prefix('!');
            let bare = positive.unwrap_or(pattern).trim_end_matches('/');
            meanings.push(Meaning {
                place: *place,
                excludes: positive.is_none(),
                directories_only: pattern.ends_with('/'),
            });
            let glob = GlobBuilder::new(bare.strip_prefix('/').unwrap_or(bare))
                .literal_separator(true)
                .build()
                .map_err(|error| bad(pattern, &error))?;
            set.add(glob);
        }
        let set = set.build().map_err(|error| bad("all of them", &error))?;
        Ok(Self { set, meanings })
    }

    /// What the last pattern that matches says.
    fn decide(&self, bytes: &[u8], kind: Kind) -> Option<Meaning> {
        let path = Path::new(OsStr::from_bytes(bytes));
        // Most entries match nothing, and asking that is cheaper.
        if !self.set.is_match(path) {
            return None;
        }
        let matches = self.set.matches(path).into_iter();
        matches
            .filter_map(|index| self.meanings.get(index).copied())
            .rfind(|meaning| !meaning.directories_only || kind == Kind::Directory)
    }
}

/// The patterns of a file in the form of a `.gitignore`: one a line, blank lines and those that start
/// with `#` left out, blanks at the end, too.
pub fn patterns_of(file: &str) -> impl Iterator<Item = &str> {
    file.lines()
        .map(|line| line.trim_end_matches([' ', '\t', '\r']))
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            line.strip_prefix('\\').filter(|rest| rest.starts_with(['#', '!'])).unwrap_or(line)
        })
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
    fn the_last_pattern_that_matches_decides() {
        let excluded = |path: &str| {
            excluded(&["*.log", "!keep.log", "/a/keep.log", "!.git"], path.as_bytes(), Kind::File)
        };
        assert!(excluded("x.log") && excluded("a/keep.log"));
        assert!(!excluded("keep.log") && !excluded("b/keep.log") && !excluded(".git"));
    }

    #[test]
    fn a_file_of_patterns_is_read_as_git_reads_it() {
        let file = "# build\n*.o  \r\n\n\\#odd\n!keep.o\n";
        assert_eq!(patterns_of(file).collect::<Vec<_>>(), ["*.o", "#odd", "!keep.o"]);
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
