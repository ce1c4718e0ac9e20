//! Which part of a tree a call is about, from its query.

use workspace_common::problem::Problem;

use super::{
    diff::Criterion,
    exclude::{Defaults, Exclusions},
    manifest::scan::ScanOptions,
};
use crate::files::{WorkspacePath, query::Query};

/// What the calls that read a tree have in common.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The directory.
    pub path: WorkspacePath,
    /// How it is looked at.
    pub options: ScanOptions,
}

impl Selection {
    /// Takes `path`, `exclude`, `default_excludes` and `checksum`.
    ///
    /// # Errors
    /// When one of them is malformed.
    pub fn take(query: &mut Query) -> Result<Self, Problem> {
        let path = query.take_path("path")?;
        let patterns = query.take_all("exclude");
        let defaults = query.take_flag("default_excludes", true)?;
        let hashes = query.take_flag("checksum", false)?;
        let patterns: Vec<_> =
            patterns.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect();
        let defaults = if defaults { Defaults::Apply } else { Defaults::Ignore };
        let exclusions = Exclusions::new(&patterns, defaults)
            .map_err(|error| Problem::bad_request("bad_exclude", error.to_string()))?;
        Ok(Self { path, options: ScanOptions { exclusions, hashes } })
    }

    /// What makes two files the same.
    pub fn criterion(&self) -> Criterion {
        if self.options.hashes { Criterion::Content } else { Criterion::SizeAndTime }
    }
}
