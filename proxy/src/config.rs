//! From flags and the policy file to one compiled [`Policy`]: every text is parsed here, once, and
//! every mistake is reported with the place and the entry it stands in.

pub mod list;
pub mod wire;

use std::collections::HashMap;
use std::fmt;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use http::Method;
use ipnet::IpNet;
use thiserror::Error;

use crate::config::list::ListEntry;
use crate::config::wire::{AllowWire, DenyWire, ExceptionWire, PolicyWire, SchemeWire};
use crate::host::{Host, Scheme};
use crate::policy::pattern::HostPattern;
use crate::policy::{Access, AllowRule, DenyRule, Policy, PolicyParts, PrivateException};

/// A policy file larger than this is a mistake. 100,000 rules fit.
const MAX_POLICY_BYTES: u64 = 8 * 1024 * 1024;

/// What the policy file says, compiled, together with what the flags add to it.
#[derive(Debug, Default)]
pub struct Settings {
    /// Who may be reached.
    pub policy: Policy,
    /// Names with fixed addresses, as in a hosts file.
    pub hosts: HashMap<Arc<str>, Vec<IpAddr>>,
    /// The Bedrock route, where the file configures it.
    pub bedrock: Option<wire::BedrockWire>,
    /// Whether rules may have an `http://` base URL.
    pub allow_plain_http_rules: bool,
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
    #[error("policy version {0} is not known; this program reads version 1")]
    Version(u32),
    /// One entry is wrong.
    #[error("{place}: `{entry}`: {problem}")]
    Entry {
        /// The list and the position in it.
        place: String,
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
    pub fn load(
        file: Option<&Path>,
        allow: &[String],
        suffix_list: &str,
    ) -> Result<Self, ConfigError> {
        let wire = file.map(read_file).transpose()?.unwrap_or_default();
        let mut settings = Compiler::default();
        settings.file(&wire)?;
        settings.list("--allow", Reading::Plain, allow.iter().map(String::as_str))?;
        settings.list("PROXY_DOMAIN_WHITELIST", Reading::Predecessor, suffix_list.split(','))?;
        Ok(Self {
            policy: Policy::new(settings.parts),
            hosts: settings.hosts,
            bedrock: wire.bedrock,
            allow_plain_http_rules: wire.rules.allow_plain_http,
        })
    }
}

fn read_file(path: &Path) -> Result<PolicyWire, ConfigError> {
    let unreadable = |source| ConfigError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(MAX_POLICY_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_POLICY_BYTES {
        return Err(ConfigError::TooLarge(path.to_owned()));
    }
    parse_text(&text).map_err(|problem| ConfigError::Syntax { path: path.to_owned(), problem })
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

/// How a plain name of a list is read.
#[derive(Clone, Copy)]
enum Reading {
    /// As patterns of the policy file.
    Plain,
    /// As the predecessor did: with all subdomains.
    Predecessor,
}

#[derive(Default)]
struct Compiler {
    parts: PolicyParts,
    hosts: HashMap<Arc<str>, Vec<IpAddr>>,
}

impl Compiler {
    fn file(&mut self, wire: &PolicyWire) -> Result<(), ConfigError> {
        if wire.version != 1 {
            return Err(ConfigError::Version(wire.version));
        }
        let egress = &wire.egress;
        for (at, rule) in egress.allow.iter().enumerate() {
            let entry = Entry { list: "egress.allow", at, text: &rule.host };
            self.parts.allow.push(allow_rule(&entry, rule)?);
        }
        for (at, rule) in egress.deny.iter().enumerate() {
            let entry = Entry { list: "egress.deny", at, text: &rule.host };
            self.parts.deny.push(deny_rule(&entry, rule)?);
        }
        for (at, rule) in egress.private_exceptions.iter().enumerate() {
            let entry = Entry { list: "egress.private_exceptions", at, text: &rule.host };
            self.parts.exceptions.push(exception(&entry, rule)?);
        }
        for (at, text) in egress.extra_deny_cidrs.iter().enumerate() {
            let entry = Entry { list: "egress.extra_deny_cidrs", at, text };
            self.parts.extra_deny.push(entry.cidr(text)?);
        }
        self.static_hosts(wire)
    }

    fn static_hosts(&mut self, wire: &PolicyWire) -> Result<(), ConfigError> {
        for (at, (name, addresses)) in wire.hosts.iter().enumerate() {
            let entry = Entry { list: "hosts", at, text: name };
            let host = Host::parse(name).map_err(|e| entry.error(e))?;
            let name = host.name().ok_or_else(|| entry.error("this is an address, not a name"))?;
            let parsed: Result<Vec<IpAddr>, _> = addresses.iter().map(|a| a.parse()).collect();
            let parsed = parsed.map_err(|e| entry.error(e))?;
            self.hosts.insert(name.into(), parsed);
        }
        Ok(())
    }

    /// Adds a list of the command line.
    fn list<'a>(
        &mut self,
        list: &'static str,
        reading: Reading,
        texts: impl Iterator<Item = &'a str>,
    ) -> Result<(), ConfigError> {
        let texts = texts.map(str::trim).filter(|text| !text.is_empty());
        for (at, text) in texts.enumerate() {
            let entry = Entry { list, at, text };
            let parsed: ListEntry = text.parse().map_err(|e| entry.error(e))?;
            let parsed = match reading {
                Reading::Plain => parsed,
                Reading::Predecessor => parsed.as_predecessor(),
            };
            let pattern = parsed.pattern.narrow().map_err(|e| entry.error(e))?;
            let rule = AllowRule {
                label: text.into(),
                ports: parsed.ports,
                access: ALL_ACCESS.to_vec(),
                methods: None,
                paths: None,
            };
            self.parts.allow.push((pattern, rule));
        }
        Ok(())
    }
}

const ALL_ACCESS: [Access; 3] =
    [Access::Tunnel, Access::Forward(Scheme::Https), Access::Forward(Scheme::Http)];

/// An entry as an error may show it: a URL pasted with its password must not end up in a log.
fn without_userinfo(text: &str) -> String {
    let Some((before, after)) = text.rsplit_once('@') else { return text.to_owned() };
    let scheme = before.split_once("//").map_or(0, |(scheme, _)| scheme.len() + 2);
    format!("{}…@{after}", before.get(..scheme).unwrap_or_default())
}

/// Where an entry stands, for error messages.
struct Entry<'a> {
    list: &'static str,
    at: usize,
    text: &'a str,
}

impl Entry<'_> {
    fn error(&self, problem: impl fmt::Display) -> ConfigError {
        ConfigError::Entry {
            place: format!("{}[{}]", self.list, self.at),
            entry: without_userinfo(self.text),
            problem: problem.to_string(),
        }
    }

    fn pattern(&self) -> Result<HostPattern, ConfigError> {
        self.text.parse().map_err(|e| self.error(e))
    }

    fn cidr(&self, text: &str) -> Result<IpNet, ConfigError> {
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.map_err(|_ignored| {
            self.error(format!("`{text}` is not an address range such as 10.20.0.0/16"))
        })
    }

    fn ports(&self, ports: &[u16]) -> Result<Vec<u16>, ConfigError> {
        if ports.contains(&0) {
            return Err(self.error("port 0 does not exist"));
        }
        Ok(ports.to_vec())
    }
}

fn allow_rule(
    entry: &Entry<'_>,
    wire: &AllowWire,
) -> Result<(HostPattern, AllowRule), ConfigError> {
    let pattern = entry.pattern()?.narrow().map_err(|e| entry.error(e))?;
    let limited = wire.methods.is_some() || wire.paths.is_some();
    let access = access(entry, wire.schemes.as_deref(), limited)?;
    let ports = match &wire.ports {
        Some(ports) if ports.is_empty() => return Err(entry.error("`ports` is empty")),
        Some(ports) => entry.ports(ports)?,
        None => default_ports(wire.schemes.as_deref()),
    };
    let rule = AllowRule {
        label: entry.text.into(),
        ports,
        access,
        methods: wire.methods.as_deref().map(|m| methods(entry, m)).transpose()?,
        paths: wire.paths.as_deref().map(|p| paths(entry, p)).transpose()?,
    };
    Ok((pattern, rule))
}

/// All ways by default; without tunnels where method or path are limited, because a tunnel hides
/// both.
fn access(
    entry: &Entry<'_>,
    schemes: Option<&[SchemeWire]>,
    limited: bool,
) -> Result<Vec<Access>, ConfigError> {
    let Some(schemes) = schemes else {
        let open = |access: &Access| !(limited && *access == Access::Tunnel);
        return Ok(ALL_ACCESS.into_iter().filter(open).collect());
    };
    if schemes.is_empty() {
        return Err(entry.error("`schemes` is empty"));
    }
    if limited && schemes.contains(&SchemeWire::Tunnel) {
        return Err(entry.error("a tunnel hides methods and paths, so they cannot be limited"));
    }
    Ok(schemes.iter().map(|scheme| scheme.access()).collect())
}

fn default_ports(schemes: Option<&[SchemeWire]>) -> Vec<u16> {
    match schemes {
        Some([SchemeWire::Http]) => vec![80],
        Some(schemes) if schemes.contains(&SchemeWire::Http) => vec![443, 80],
        _ => vec![443],
    }
}

fn methods(entry: &Entry<'_>, texts: &[String]) -> Result<Vec<Method>, ConfigError> {
    let parse = |text: &String| {
        let upper = text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        let method = Method::from_bytes(text.as_bytes()).ok().filter(|_| upper);
        method.ok_or_else(|| entry.error(format!("`{text}` is not a method in capitals")))
    };
    texts.iter().map(parse).collect()
}

fn paths(entry: &Entry<'_>, texts: &[String]) -> Result<GlobSet, ConfigError> {
    let mut set = GlobSetBuilder::new();
    for text in texts {
        if !text.starts_with('/') {
            return Err(entry.error(format!("path `{text}` must begin with /")));
        }
        let glob = GlobBuilder::new(text)
            .literal_separator(true)
            .backslash_escape(false)
            .build()
            .map_err(|e| entry.error(e))?;
        set.add(glob);
    }
    set.build().map_err(|e| entry.error(e))
}

fn deny_rule(entry: &Entry<'_>, wire: &DenyWire) -> Result<(HostPattern, DenyRule), ConfigError> {
    let ports = wire.ports.as_deref().map(|p| entry.ports(p)).transpose()?;
    Ok((entry.pattern()?, DenyRule { ports }))
}

fn exception(entry: &Entry<'_>, wire: &ExceptionWire) -> Result<PrivateException, ConfigError> {
    let ports = wire.ports.as_deref().map(|p| entry.ports(p)).transpose()?;
    Ok(PrivateException::new(entry.pattern()?, entry.cidr(&wire.cidr)?, ports))
}

#[cfg(test)]
mod tests;
