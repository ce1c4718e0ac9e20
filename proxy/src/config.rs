//! From flags and the policy file to one compiled [`Policy`]: every text is parsed here, once, and
//! every mistake is reported with the place and the entry it stands in.

mod compile;
pub mod list;
pub mod source;
pub mod wire;

use std::collections::HashMap;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::config::compile::{Compiler, Reading};
pub use crate::config::source::Sources;
use crate::config::wire::PolicyWire;
use crate::limits::LimitArgs;
use crate::policy::Policy;
use crate::policy::place::Place;
use crate::policy::review::{Warning, review};
use crate::upstream::via::ViaSettings;
use crate::upstream::via::address::ProxyAddressError;

/// A policy file larger than this is a mistake. 100,000 rules fit.
const MAX_POLICY_BYTES: u64 = 8 * 1024 * 1024;

/// What the policy file says, compiled, together with what the flags add to it.
#[derive(Debug, Default)]
pub struct Settings {
    /// Who may be reached.
    pub policy: Policy,
    /// Names with fixed addresses, as in a hosts file.
    pub hosts: HashMap<Arc<str>, Vec<IpAddr>>,
    /// The upstream proxy, where the file configures it.
    pub via: ViaSettings,
    /// The Bedrock route, where the file configures it.
    pub bedrock: Option<wire::BedrockWire>,
    /// Whether rules may have an `http://` base URL.
    pub allow_plain_http_rules: bool,
    /// Limits that the file sets.
    pub limits: LimitArgs,
    /// Rules without effect.
    pub warnings: Vec<Warning>,
}

/// Why a policy cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read policy file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The file is too large.
    #[error("policy file {0} is larger than {MAX_POLICY_BYTES} bytes")]
    TooLarge(PathBuf),
    /// The file is neither YAML nor JSON, has an unknown key, or a value of the wrong type.
    #[error("policy file {path} is malformed: {problem}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        problem: String,
    },
    /// A version that this program does not know.
    #[error("policy file {path}: version {version} is not known; this program reads version 1")]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        version: u32,
    },
    /// `upstream_proxy` is no address. What it says is not shown: there may be a password in it.
    #[error("policy file {path}: upstream_proxy {problem}")]
    UpstreamProxy {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: ProxyAddressError,
    },
    /// One entry is wrong.
    #[error("{place}: `{entry}`: {problem}")]
    Entry {
        /// The list and the position in it; the line of the file.
        place: Place,
        /// The entry as written.
        entry: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Settings {
    /// Compiles the file (when there is one) and the two lists of the command line.
    ///
    /// # Errors
    /// Names the file, or the list and the entry at fault.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let text = sources.file.as_deref().map(read_file).transpose()?;
        Self::compile(sources, text.as_deref())
    }

    /// The same with the content of the file given.
    ///
    /// # Errors
    /// Names the file, or the list and the entry at fault.
    pub fn compile(sources: &Sources, text: Option<&str>) -> Result<Self, ConfigError> {
        let path = sources.file.clone().unwrap_or_default();
        let syntax = |problem| ConfigError::Syntax { path: path.clone(), problem };
        let wire = text.map(parse_text).transpose().map_err(syntax)?.unwrap_or_default();
        let mut compiler = Compiler::default();
        compiler.file(&path, &wire)?;
        let allow = sources.allow.iter().map(String::as_str);
        compiler.list("--allow", Reading::Plain, allow)?;
        let whitelist = sources.domain_whitelist.split(',');
        compiler.list("PROXY_DOMAIN_WHITELIST", Reading::Predecessor, whitelist)?;
        let warnings = review(&compiler.parts);
        Ok(Self {
            policy: Policy::new(compiler.parts),
            hosts: compiler.hosts,
            via: compiler.via,
            bedrock: wire.bedrock,
            allow_plain_http_rules: wire.rules.allow_plain_http,
            limits: wire.limits,
            warnings,
        })
    }
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(MAX_POLICY_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_POLICY_BYTES {
        return Err(ConfigError::TooLarge(path.to_owned()));
    }
    Ok(text)
}

/// YAML is a superset of the JSON that anybody writes, so one parser reads both.
fn parse_text(text: &str) -> Result<PolicyWire, String> {
    if text.trim().is_empty() {
        return Ok(PolicyWire::default());
    }
    serde_saphyr::from_str_with_options(text, yaml_bounds()).map_err(|error| error.to_string())
}

/// The parser's own bounds stop a file a long way before its size does. What costs more than its
/// size is aliases, which are bounded instead.
fn yaml_bounds() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: 4_000_000, max_events: 8_000_000 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
    }
}

#[cfg(test)]
mod tests;
