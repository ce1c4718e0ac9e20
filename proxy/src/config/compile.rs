//! Turns what is written into rules, entry by entry.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use http::Method;
use ipnet::IpNet;
use serde_saphyr::Spanned;

use crate::config::ConfigError;
use crate::config::list::ListEntry;
use crate::config::wire::tunnel::TlsWire;
use crate::config::wire::{AllowWire, DenyWire, ExceptionWire, PolicyWire, SchemeWire};
use crate::host::{Host, Scheme};
use crate::policy::pattern::HostPattern;
use crate::policy::place::Place;
use crate::policy::tunnel::{PastRoutes, TunnelTerms};
use crate::policy::{Access, AllowRule, DenyRule, PolicyParts, PrivateException, Written};
use crate::rules::path::PathGlobs;
use crate::upstream::via::ViaSettings;

/// How a plain name of a list is read.
#[derive(Clone, Copy)]
pub(super) enum Reading {
    /// As patterns of the policy file.
    Plain,
    /// As the predecessor did: with all subdomains.
    Predecessor,
}

/// What has been compiled so far.
#[derive(Default)]
pub(super) struct Compiler {
    pub(super) parts: PolicyParts,
    pub(super) hosts: HashMap<Arc<str>, Vec<IpAddr>>,
    pub(super) via: ViaSettings,
}

impl Compiler {
    /// Adds what a file says.
    pub(super) fn file(&mut self, path: &Path, wire: &PolicyWire) -> Result<(), ConfigError> {
        if wire.version != 1 {
            return Err(ConfigError::Version { path: path.to_owned(), version: wire.version });
        }
        let file: Arc<str> = path.to_string_lossy().into();
        let egress = &wire.egress;
        self.parts.mode = egress.mode.mode();
        self.parts.ech = egress.ech.ech();
        for (at, rule) in egress.allow.iter().enumerate() {
            let place = in_file("egress.allow", at, &file, rule);
            let entry = Entry { place, text: &rule.value.host };
            self.parts.allow.push(allow_rule(&entry, &rule.value)?);
        }
        for (at, rule) in egress.deny.iter().enumerate() {
            let place = in_file("egress.deny", at, &file, rule);
            let entry = Entry { place, text: &rule.value.host };
            self.parts.deny.push(deny_rule(&entry, &rule.value)?);
        }
        for (at, rule) in egress.private_exceptions.iter().enumerate() {
            let place = in_file("egress.private_exceptions", at, &file, rule);
            let entry = Entry { place, text: &rule.value.host };
            self.parts.exceptions.push(exception(&entry, &rule.value)?);
        }
        for (at, text) in egress.extra_deny_cidrs.iter().enumerate() {
            let place = in_file("egress.extra_deny_cidrs", at, &file, text);
            let entry = Entry { place, text: &text.value };
            self.parts.extra_deny.push(entry.cidr(&text.value)?);
        }
        self.via(path, &file, wire)?;
        self.static_hosts(&file, wire)
    }

    fn via(&mut self, path: &Path, file: &Arc<str>, wire: &PolicyWire) -> Result<(), ConfigError> {
        let url = wire.upstream_proxy.as_deref();
        self.via.proxy = url
            .map(str::parse)
            .transpose()
            .map_err(|problem| ConfigError::UpstreamProxy { path: path.to_owned(), problem })?;
        for (at, text) in wire.upstream_proxy_bypass.iter().enumerate() {
            let place = in_file("upstream_proxy_bypass", at, file, text);
            self.via.bypass.push(Entry { place, text: &text.value }.pattern()?);
        }
        self.via.names = wire.upstream_proxy_names;
        Ok(())
    }

    fn static_hosts(&mut self, file: &Arc<str>, wire: &PolicyWire) -> Result<(), ConfigError> {
        for (at, (name, addresses)) in wire.hosts.iter().enumerate() {
            let entry = Entry { place: in_file("hosts", at, file, addresses), text: name };
            let host = Host::parse(name).map_err(|e| entry.error(e))?;
            let name = host.name().ok_or_else(|| entry.error("this is an address, not a name"))?;
            let parsed: Result<Vec<IpAddr>, _> =
                addresses.value.iter().map(|a| a.parse()).collect();
            let parsed = parsed.map_err(|e| entry.error(e))?;
            self.hosts.insert(name.into(), parsed);
        }
        Ok(())
    }

    /// Adds a list of the command line.
    pub(super) fn list<'a>(
        &mut self,
        list: &'static str,
        reading: Reading,
        texts: impl Iterator<Item = &'a str>,
    ) -> Result<(), ConfigError> {
        let texts = texts.map(str::trim).filter(|text| !text.is_empty());
        for (at, text) in texts.enumerate() {
            let entry = Entry { place: Place::of_list(list, at), text };
            let parsed: ListEntry = text.parse().map_err(|e| entry.error(e))?;
            let parsed = match reading {
                Reading::Plain => parsed,
                Reading::Predecessor => parsed.as_predecessor(),
            };
            let pattern = parsed.pattern.narrow().map_err(|e| entry.error(e))?;
            let terms = AllowRule {
                ports: parsed.ports,
                access: ALL_ACCESS.to_vec(),
                methods: None,
                paths: None,
                tunnel: TunnelTerms::default(),
            };
            let rule = Written { label: text.into(), place: entry.place, terms };
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
    place: Place,
    text: &'a str,
}

fn in_file<T>(list: &'static str, at: usize, file: &Arc<str>, value: &Spanned<T>) -> Place {
    Place { list, at, line: Some((Arc::clone(file), value.referenced.line())) }
}

impl Entry<'_> {
    fn error(&self, problem: impl fmt::Display) -> ConfigError {
        ConfigError::Entry {
            place: self.place.clone(),
            entry: without_userinfo(self.text),
            problem: problem.to_string(),
        }
    }

    fn written<T>(&self, terms: T) -> Written<T> {
        Written { label: self.text.into(), place: self.place.clone(), terms }
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
        if ports.is_empty() {
            return Err(self.error("`ports` is empty"));
        }
        if ports.contains(&0) {
            return Err(self.error("port 0 does not exist"));
        }
        Ok(ports.to_vec())
    }
}

fn allow_rule(
    entry: &Entry<'_>,
    wire: &AllowWire,
) -> Result<(HostPattern, Written<AllowRule>), ConfigError> {
    let pattern = entry.pattern()?.narrow().map_err(|e| entry.error(e))?;
    let limited = wire.methods.is_some() || wire.paths.is_some();
    let access = access(entry, wire.schemes.as_deref(), limited)?;
    let ports = match &wire.ports {
        Some(ports) => entry.ports(ports)?,
        None => default_ports(wire.schemes.as_deref()),
    };
    let rule = AllowRule {
        ports,
        access,
        methods: wire.methods.as_deref().map(|m| methods(entry, m)).transpose()?,
        paths: wire.paths.as_deref().map(|p| paths(entry, p)).transpose()?,
        tunnel: tunnel_terms(entry, wire)?,
    };
    if wire.tunnel.is_some() && !rule.access.contains(&Access::Tunnel) {
        return Err(entry.error("`tunnel` is about tunnels, which this rule does not allow"));
    }
    Ok((pattern, entry.written(rule)))
}

/// What is not looked at has no server name to compare.
fn tunnel_terms(entry: &Entry<'_>, wire: &AllowWire) -> Result<TunnelTerms, ConfigError> {
    let (content, names) = (wire.tls.unwrap_or_default(), wire.sni);
    if content == TlsWire::None && names.is_some() {
        return Err(entry.error("`tls: none` looks at nothing, so `sni` cannot be asked for"));
    }
    let names = names.unwrap_or_default().names();
    let past_routes = match wire.tunnel {
        Some(true) => PastRoutes::Allowed,
        Some(false) | None => PastRoutes::Refused,
    };
    Ok(TunnelTerms { content: content.content(), names, past_routes, ..TunnelTerms::default() })
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
    if texts.is_empty() {
        return Err(entry.error("`methods` is empty"));
    }
    let parse = |text: &String| {
        let upper = text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        let method = Method::from_bytes(text.as_bytes()).ok().filter(|_| upper);
        method.ok_or_else(|| entry.error(format!("`{text}` is not a method in capitals")))
    };
    texts.iter().map(parse).collect()
}

fn paths(entry: &Entry<'_>, texts: &[String]) -> Result<PathGlobs, ConfigError> {
    if texts.is_empty() {
        return Err(entry.error("`paths` is empty"));
    }
    PathGlobs::parse(texts.to_vec()).map_err(|(at, problem)| {
        let text = texts.get(at).map_or("", String::as_str);
        entry.error(format!("path `{text}` {problem}"))
    })
}

fn deny_rule(
    entry: &Entry<'_>,
    wire: &DenyWire,
) -> Result<(HostPattern, Written<DenyRule>), ConfigError> {
    let ports = wire.ports.as_deref().map(|p| entry.ports(p)).transpose()?;
    if wire.schemes.as_ref().is_some_and(Vec::is_empty) {
        return Err(entry.error("`schemes` is empty"));
    }
    let access = |schemes: &Vec<SchemeWire>| schemes.iter().map(|scheme| scheme.access()).collect();
    let rule = DenyRule {
        ports,
        access: wire.schemes.as_ref().map(access),
        methods: wire.methods.as_deref().map(|m| methods(entry, m)).transpose()?,
        paths: wire.paths.as_deref().map(|p| paths(entry, p)).transpose()?,
    };
    Ok((entry.pattern()?, entry.written(rule)))
}

fn exception(
    entry: &Entry<'_>,
    wire: &ExceptionWire,
) -> Result<(HostPattern, Written<PrivateException>), ConfigError> {
    let ports = wire.ports.as_deref().map(|p| entry.ports(p)).transpose()?;
    let pattern = entry.pattern()?.narrow().map_err(|e| entry.error(e))?;
    let rule = PrivateException::new(entry.cidr(&wire.cidr)?, ports);
    Ok((pattern, entry.written(rule)))
}
