//! What a workspace may reach: one immutable value, and the one decision over it.
//!
//! Pure: no lookup, no socket, no clock. The order of a decision is fixed: deny rules, then allow
//! rules by host, port, way of access, method and path. An empty policy denies everything.
//!
//! Invariant: [`Permit`] has private fields and is made only here, and the connector takes nothing
//! else, so that no code path can dial what was not decided.

pub mod index;
pub mod live;
pub mod pattern;
pub mod permit;
pub mod place;
pub mod ranges;
pub mod review;
pub mod rule;
pub mod rules;
pub mod shared;
pub mod tunnel;

use std::sync::Arc;

use http::Method;
use ipnet::IpNet;

use crate::host::{Host, HostPort, Scheme};
use crate::policy::index::HostIndex;
use crate::policy::pattern::HostPattern;
pub use crate::policy::permit::{GuardTerms, Permit, Purpose};
use crate::policy::place::Place;
use crate::policy::ranges::RangeMap;
pub use crate::policy::rule::{Access, AllowRule, DenyRule, PrivateException, Written};
use crate::policy::rules::{Found, Rules};
use crate::policy::tunnel::{Ech, TunnelTerms};
use crate::refusal::Refusal;

/// The compiled policy of one proxy.
#[derive(Debug, Default)]
pub struct Policy {
    mode: Mode,
    ech: Ech,
    allow: Rules<AllowRule>,
    deny: Rules<DenyRule>,
    exceptions: HostIndex<PrivateException>,
    extra_deny: Arc<RangeMap<()>>,
}

/// The parts that a policy is compiled from, each already parsed.
#[derive(Debug, Default)]
pub struct PolicyParts {
    /// Whether denials count.
    pub mode: Mode,
    /// What becomes of encrypted client hellos.
    pub ech: Ech,
    /// What may be reached.
    pub allow: Vec<(HostPattern, Written<AllowRule>)>,
    /// What may not be reached even where an allow rule matches.
    pub deny: Vec<(HostPattern, Written<DenyRule>)>,
    /// Internal addresses that named hosts may resolve to.
    pub exceptions: Vec<(HostPattern, Written<PrivateException>)>,
    /// Ranges that are refused whatever else is said.
    pub extra_deny: Vec<IpNet>,
}

/// What becomes of a request that the lists do not allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It is refused.
    #[default]
    Enforce,
    /// It passes, and its audit line says what would have been. The address guard and everything
    /// that is malformed are refused all the same.
    Report,
}

impl Mode {
    /// The word of the policy file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Report => "report",
        }
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
    /// Whether a reverse route leads to the same destination with a credential, which a tunnel goes
    /// without.
    pub routed: bool,
}

impl<'a> Question<'a> {
    /// About a tunnel.
    #[must_use]
    pub const fn tunnel(at: &'a HostPort) -> Self {
        Self { at, access: Access::Tunnel, request: None, routed: false }
    }

    /// About a request that the proxy sends itself.
    #[must_use]
    pub const fn request(
        (scheme, at): (Scheme, &'a HostPort),
        method: &'a Method,
        path: &'a str,
    ) -> Self {
        let access = Access::Forward(scheme);
        Self { at, access, request: Some((method, path)), routed: false }
    }

    /// The same, where a reverse route leads there too.
    #[must_use]
    pub const fn beside_route(self, routed: bool) -> Self {
        Self { routed, ..self }
    }
}

impl Policy {
    /// Compiles the parts.
    #[must_use]
    pub fn new(parts: PolicyParts) -> Self {
        let exceptions = parts.exceptions.into_iter().map(|(pattern, rule)| (pattern, rule.terms));
        Self {
            mode: parts.mode,
            ech: parts.ech,
            allow: Rules::new(parts.allow),
            deny: Rules::new(parts.deny),
            exceptions: HostIndex::new(exceptions.collect()),
            extra_deny: Arc::new(parts.extra_deny.into_iter().map(|net| (net, ())).collect()),
        }
    }

    /// Whether denials count.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
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

    fn guard_terms(&self, host: &Host) -> GuardTerms {
        GuardTerms {
            exceptions: self.exceptions.matching(host).map(|hit| hit.rule.clone()).collect(),
            extra_deny: Arc::clone(&self.extra_deny),
        }
    }
}

/// The port on which a tunnel carries HTTP in clear.
pub const HTTP_PORT: u16 = 80;

/// Decides a request by the deny and allow lists.
///
/// # Errors
/// The first reason against it, in the order host, port, access, method, path.
pub fn decide(policy: &Policy, question: &Question<'_>) -> Result<Permit, Refusal> {
    let found = check_denied(policy, question).map_err(|(refusal, _rule)| refusal);
    let found = found.and_then(|()| find_rule(policy, question));
    let would_deny = found.as_ref().err().copied();
    if let Some(refusal) = would_deny
        && policy.mode == Mode::Enforce
    {
        return Err(refusal);
    }
    let (rule, judged_path, tunnel) = match found {
        Ok(rule) => (rule.pattern.into(), rule.terms.paths.is_some(), rule.terms.tunnel),
        Err(_) => (Mode::Report.as_str().into(), false, TunnelTerms::default()),
    };
    let tunnel = TunnelTerms { ech: policy.ech, ..tunnel };
    let (scheme, purpose) = match question.access {
        Access::Tunnel if question.at.port == HTTP_PORT => (Scheme::Http, Purpose::Tunnel),
        Access::Tunnel => (Scheme::Https, Purpose::Tunnel),
        Access::Forward(scheme) => (scheme, Purpose::Forward),
    };
    let guard = policy.guard_terms(&question.at.host);
    let at = question.at.clone();
    Ok(Permit { at, scheme, rule, purpose, judged_path, would_deny, tunnel, guard })
}

/// The place of the rule that decides a request: the one that denies or allows it; none where
/// nothing names it.
#[must_use]
pub fn deciding_place(policy: &Policy, question: &Question<'_>) -> Option<Place> {
    match check_denied(policy, question) {
        Err((_, rule)) => Some(rule.place()),
        Ok(()) => find_rule(policy, question).ok().map(|rule| rule.place()),
    }
}

/// Permits the destination of a credential route. The route itself is the allow rule; the deny list
/// and the address guard apply to it as to everything.
///
/// # Errors
/// [`Refusal::Denied`] when the deny list names the destination.
pub fn decide_route(
    policy: &Policy,
    purpose: Purpose,
    question: &Question<'_>,
) -> Result<Permit, Refusal> {
    // A route is not a matter of the allow list, so report mode changes nothing about it.
    check_denied(policy, question).map_err(|(refusal, _rule)| refusal)?;
    let rule = match &purpose {
        Purpose::Route(name) => Arc::clone(name),
        Purpose::Aws => "bedrock".into(),
        Purpose::Tunnel | Purpose::Forward => return Err(Refusal::NotAllowed),
    };
    let Access::Forward(scheme) = question.access else { return Err(Refusal::NotAllowed) };
    let guard = policy.guard_terms(&question.at.host);
    let at = question.at.clone();
    let tunnel = TunnelTerms::default();
    Ok(Permit { at, scheme, rule, purpose, judged_path: false, would_deny: None, tunnel, guard })
}

/// The refusal comes with the rule that causes it.
fn check_denied<'p>(
    policy: &'p Policy,
    question: &Question<'_>,
) -> Result<(), (Refusal, Found<'p, DenyRule>)> {
    match policy.deny.matching(&question.at.host).find(|rule| rule.terms.hits(question)) {
        Some(rule) => Err((Refusal::Denied, rule)),
        None => Ok(()),
    }
}

/// The first rule that allows all of it. Without one, the refusal names the step at which the last
/// candidate fell out.
fn find_rule<'p>(
    policy: &'p Policy,
    question: &Question<'_>,
) -> Result<Found<'p, AllowRule>, Refusal> {
    let mut closest = (0, Refusal::NotAllowed);
    for rule in policy.allow.matching(&question.at.host) {
        match rule.terms.verdict(question) {
            Ok(()) => return Ok(rule),
            Err((step, refusal)) if step > closest.0 => closest = (step, refusal),
            Err(_) => {}
        }
    }
    // The way that there is says more than the reason why this one is none.
    Err(if question.routed { Refusal::UseRoute } else { closest.1 })
}

#[cfg(test)]
mod tests;
