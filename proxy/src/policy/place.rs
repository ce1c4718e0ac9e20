//! Where a rule stands, for people.

use std::fmt;
use std::sync::Arc;

/// A list, the position in it, and the line of the policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The list: a key of the file, a flag or a variable.
    pub list: &'static str,
    /// Position, from 0.
    pub at: usize,
    /// The file and the line in it, from 1; nothing for a list of the command line.
    pub line: Option<(Arc<str>, u64)>,
}

impl Place {
    /// A place outside of files.
    #[must_use]
    pub const fn of_list(list: &'static str, at: usize) -> Self {
        Self { list, at, line: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((file, line)) = &self.line {
            write!(f, "{file}:{line}: ")?;
        }
        write!(f, "{}[{}]", self.list, self.at)
    }
}
