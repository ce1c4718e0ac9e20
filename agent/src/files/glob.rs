//! `?glob=`: which entries a listing shows, by their paths from the directory listed. Pure.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::query::QueryError;

/// More of them say nothing that fewer could not.
const MAX_GLOBS: usize = 100;

/// Globs, of which one has to match. None at all match everything.
#[derive(Debug, Clone)]
pub(super) struct Globs(Option<GlobSet>);

impl Globs {
    /// Compiles them. `*` and `?` stay within a name, `**` crosses directories.
    ///
    /// # Errors
    /// When one is no glob, or there are too many.
    pub(super) fn parse(globs: &[Vec<u8>]) -> Result<Self, QueryError> {
        if globs.is_empty() {
            return Ok(Self(None));
        }
        let bad = |glob: &[u8], expected| QueryError::BadValue {
            name: "glob",
            value: super::path::printable(glob),
            expected,
        };
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            let text = std::str::from_utf8(glob).map_err(|_error| bad(glob, "UTF-8"))?;
            let built = GlobBuilder::new(text).literal_separator(true).build();
            set.add(built.map_err(|_error| bad(glob, "a glob, as in src/**/*.rs"))?);
        }
        if globs.len() > MAX_GLOBS {
            return Err(bad(b"...", "one of at most 100 globs"));
        }
        let set = set.build().map_err(|_error| bad(b"...", "a set of globs that can be used"))?;
        Ok(Self(Some(set)))
    }

    /// Whether an entry is shown.
    pub(super) fn match_path(&self, path: &[u8]) -> bool {
        self.0.as_ref().is_none_or(|set| set.is_match(OsStr::from_bytes(path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(texts: &[&str]) -> Result<Globs, QueryError> {
        Globs::parse(&texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>())
    }

    #[test]
    fn globs_are_about_paths_from_the_directory_listed() {
        for (texts, path, expected) in [
            (&[][..], "a/b", true),
            (&["*.rs"], "main.rs", true),
            (&["*.rs"], "src/main.rs", false),
            (&["**/*.rs"], "main.rs", true),
            (&["**/*.rs"], "src/deep/main.rs", true),
            (&["src/*"], "src/a", true),
            (&["src/*"], "src/a/b", false),
            (&["*.md", "*.{rs,toml}"], "Cargo.toml", true),
            (&["*.md", "*.{rs,toml}"], "Cargo.lock", false),
        ] {
            let set = globs(texts).unwrap();
            assert_eq!(set.match_path(path.as_bytes()), expected, "{texts:?} {path}");
        }
        assert!(globs(&["*"]).unwrap().match_path(b"caf\xe9"));
    }

    #[test]
    fn what_is_no_glob_is_refused_with_its_text() {
        let refused = globs(&["[a"]).unwrap_err();
        assert!(refused.to_string().contains("'[a'"), "{refused}");
        assert!(Globs::parse(&[b"\xff".to_vec()]).is_err());
        assert!(globs(&["a"; 101]).is_err());
    }
}
