//! Where the policy comes from. All sources add up; without any, everything is denied.

use std::path::PathBuf;

use crate::cli::PolicyArgs;

/// The file and the two lists of the command line.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The policy file.
    pub file: Option<PathBuf>,
    /// Entries of `--allow`.
    pub allow: Vec<String>,
    /// The predecessor's list.
    pub domain_whitelist: String,
}

impl From<&PolicyArgs> for Sources {
    fn from(args: &PolicyArgs) -> Self {
        Self {
            file: args.policy.clone(),
            allow: args.allow.clone(),
            domain_whitelist: args.domain_whitelist.clone(),
        }
    }
}
