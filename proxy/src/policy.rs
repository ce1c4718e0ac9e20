//! What a workspace may reach: one immutable value, and the one decision over it.
//!
//! Pure: no lookup, no socket, no clock. The order of a decision is fixed: deny rules, then allow
//! rules by host, port, way of access, method and path. An empty policy denies everything.
//!
//! Invariant: [`Permit`] has private fields and is made only here, and the connector takes nothing
//! else, so that no code path can dial what was not decided.

pub mod index;
pub mod pattern;

use std::net::IpAddr;
use std::sync::Arc;

use globset::GlobSet;
use http::Method;
use ipnet::IpNet;

use crate::host::{Host, HostPort, Scheme};
use crate::policy::index::HostIndex;
use crate::policy::pattern::HostPattern;
use crate::refusal::Refusal;

/// The compiled policy of one proxy.
#[derive(Debug, Default)]
pub struct Policy {
    allow: HostIndex<AllowRule>,
    deny: HostIndex<DenyRule>,
    exceptions: Vec<PrivateException>,
    extra_deny: Vec<IpNet>,
}

/// The parts that a policy is compiled from, each already parsed.
#[derive(Debug, Default)]
pub struct PolicyParts {
    /// What may be reached.
    pub allow: Vec<(HostPattern, AllowRule)>,
    /// What may not be reached even where an allow rule matches.
    pub deny: Vec<(HostPattern, DenyRule)>,
    /// Internal addresses that named hosts may resolve to.
    pub exceptions: Vec<PrivateException>,
    /// Ranges that are refused whatever else is said.
    pub extra_deny: Vec<IpNet>,
}

/// One allow rule, apart from its host pattern.
#[derive(Clone, Debug)]
pub struct AllowRule {
    /// How the rule is named in audit lines: its pattern as written.
    pub label: Arc<str>,
    /// Ports, at least one.
    pub ports: Vec<u16>,
    /// Ways of access, at least one.
    pub access: Vec<Access>,
    /// Methods, or all. A rule that limits methods or paths never allows a tunnel.
    pub methods: Option<Vec<Method>>,
    /// Globs over the path, or all.
    pub paths: Option<GlobSet>,
}

/// One deny rule, apart from its host pattern.
#[derive(Clone, Debug)]
pub struct DenyRule {
    /// Ports, or all.
    pub ports: Option<Vec<u16>>,
}

/// How a destination is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// CONNECT: opaque to the proxy.
    Tunnel,
    /// Absolute-form with this scheme.
    Forward(Scheme),
}

/// Lets hosts that match resolve into an internal range, on certain ports.
#[derive(Clone, Debug)]
pub struct PrivateException {
    host: HostPattern,
    cidr: IpNet,
    ports: Option<Vec<u16>>,
}

impl PrivateException {
    /// Makes an exception; no ports means every port.
    #[must_use]
    pub const fn new(host: HostPattern, cidr: IpNet, ports: Option<Vec<u16>>) -> Self {
        Self { host, cidr, ports }
    }

    /// Whether the address and port are inside. The host has been matched before.
    #[must_use]
    pub fn opens(&self, ip: IpAddr, port: u16) -> bool {
        self.cidr.contains(&ip) && self.ports.as_ref().is_none_or(|ports| ports.contains(&port))
    }

    #[cfg(test)]
    pub(crate) fn for_tests(cidr: IpNet, port: Option<u16>) -> Self {
        let host = "test.example".parse().unwrap();
        Self::new(host, cidr, port.map(|port| vec![port]))
    }
}

/// What a decision needs to know about a request to a destination.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Where to.
    pub at: &'a HostPort,
    /// How.
    pub access: Access,
    /// Method and path; a tunnel has neither.
    pub request: Option<(&'a Method, &'a str)>,
}

/// The right to connect to one destination for one request.
#[derive(Clone, Debug)]
pub struct Permit {
    at: HostPort,
    scheme: Scheme,
    rule: Arc<str>,
    purpose: Purpose,
    judged_path: bool,
    exceptions: Vec<PrivateException>,
}

/// What a permit is for. Connections are never shared between purposes, so that nothing of a
/// credentialed route can meet a request without credentials.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A tunnel.
    Tunnel,
    /// A forward request by the allow list.
    Forward,
    /// A request on the reverse route of that name.
    Route(Arc<str>),
    /// A signed request to AWS.
    Aws,
}

impl Permit {
    /// The destination.
    #[must_use]
    pub const fn at(&self) -> &HostPort {
        &self.at
    }

    /// The protocol to speak; meaningless for a tunnel.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The rule that allowed it.
    #[must_use]
    pub const fn rule(&self) -> &Arc<str> {
        &self.rule
    }

    /// Whether the rule looked at the path, which must then be unambiguous.
    #[must_use]
    pub const fn judged_path(&self) -> bool {
        self.judged_path
    }

    /// What it is for.
    #[must_use]
    pub const fn purpose(&self) -> &Purpose {
        &self.purpose
    }

    /// The exceptions to the address guard that apply to this host.
    #[must_use]
    pub fn exceptions(&self) -> &[PrivateException] {
        &self.exceptions
    }
}

impl Policy {
    /// Compiles the parts.
    #[must_use]
    pub fn new(parts: PolicyParts) -> Self {
        Self {
            allow: HostIndex::new(parts.allow),
            deny: HostIndex::new(parts.deny),
            exceptions: parts.exceptions,
            extra_deny: parts.extra_deny,
        }
    }

    /// How many allow rules there are.
    #[must_use]
    pub const fn allow_count(&self) -> usize {
        self.allow.len()
    }

    /// How many deny rules there are.
    #[must_use]
    pub const fn deny_count(&self) -> usize {
        self.deny.len()
    }

    /// Ranges refused whatever else is said.
    #[must_use]
    pub fn extra_deny(&self) -> &[IpNet] {
        &self.extra_deny
    }

    fn exceptions_for(&self, host: &Host) -> Vec<PrivateException> {
        let applies = |e: &&PrivateException| e.host.matches(host);
        self.exceptions.iter().filter(applies).cloned().collect()
    }
}

/// Decides a request by the deny and allow lists.
///
/// # Errors
/// The first reason against it, in the order host, port, access, method, path.
pub fn decide(policy: &Policy, question: &Question<'_>) -> Result<Permit, Refusal> {
    check_denied(policy, question.at)?;
    let rule = find_rule(policy, question)?;
    let (scheme, purpose) = match question.access {
        Access::Tunnel => (Scheme::Https, Purpose::Tunnel),
        Access::Forward(scheme) => (scheme, Purpose::Forward),
    };
    Ok(Permit {
        at: question.at.clone(),
        scheme,
        rule: Arc::clone(&rule.label),
        purpose,
        judged_path: rule.paths.is_some(),
        exceptions: policy.exceptions_for(&question.at.host),
    })
}

/// Permits the destination of a credential route. The route itself is the allow rule; the deny list
/// and the address guard apply to it as to everything.
///
/// # Errors
/// [`Refusal::Denied`] when the deny list names the destination.
pub fn decide_route(
    policy: &Policy,
    purpose: Purpose,
    scheme: Scheme,
    at: &HostPort,
) -> Result<Permit, Refusal> {
    check_denied(policy, at)?;
    let rule = match &purpose {
        Purpose::Route(name) => Arc::clone(name),
        Purpose::Aws => "bedrock".into(),
        Purpose::Tunnel | Purpose::Forward => return Err(Refusal::NotAllowed),
    };
    Ok(Permit {
        at: at.clone(),
        scheme,
        rule,
        purpose,
        judged_path: false,
        exceptions: policy.exceptions_for(&at.host),
    })
}

fn check_denied(policy: &Policy, at: &HostPort) -> Result<(), Refusal> {
    let hit = |rule: &DenyRule| {
        let ports = rule.ports.as_ref();
        ports.is_none_or(|ports| ports.contains(&at.port))
    };
    if policy.deny.matching(&at.host).any(hit) {
        return Err(Refusal::Denied);
    }
    Ok(())
}

/// The first rule that allows all of it. Without one, the refusal names the step at which the last
/// candidate fell out.
fn find_rule<'p>(policy: &'p Policy, question: &Question<'_>) -> Result<&'p AllowRule, Refusal> {
    let mut closest = (0, Refusal::NotAllowed);
    for rule in policy.allow.matching(&question.at.host) {
        match rule.verdict(question) {
            Ok(()) => return Ok(rule),
            Err((step, refusal)) if step > closest.0 => closest = (step, refusal),
            Err(_) => {}
        }
    }
    Err(closest.1)
}

impl AllowRule {
    /// Ok, or the number of the step that failed with its refusal.
    fn verdict(&self, question: &Question<'_>) -> Result<(), (u8, Refusal)> {
        if !self.ports.contains(&question.at.port) {
            return Err((1, Refusal::PortNotAllowed));
        }
        if !self.access.contains(&question.access) {
            return Err((2, Refusal::SchemeNotAllowed));
        }
        let Some((method, path)) = question.request else {
            // A tunnel shows neither method nor path, so a rule that limits them cannot allow it.
            let limited = self.methods.is_some() || self.paths.is_some();
            return if limited { Err((2, Refusal::SchemeNotAllowed)) } else { Ok(()) };
        };
        if self.methods.as_ref().is_some_and(|methods| !methods.contains(method)) {
            return Err((3, Refusal::MethodNotAllowed));
        }
        match &self.paths {
            Some(paths) if !paths.is_match(path) => Err((4, Refusal::PathNotAllowed)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
