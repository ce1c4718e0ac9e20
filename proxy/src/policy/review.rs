//! Rules that do nothing, or more than they seem to: a mistake more often than not, and worth a word
//! to the operator.
//!
//! A warning never changes what the policy decides.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::policy::index::HostIndex;
use crate::policy::pattern::HostPattern;
use crate::policy::place::Place;
use crate::policy::shared::shared_below;
use crate::policy::{AllowRule, DenyRule, PolicyParts, PrivateException};
use crate::upstream::guard::{AddressClass, classify};

/// A rule that may not do what its author meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where it stands.
    pub place: Place,
    /// Its pattern as written.
    pub entry: String,
    /// What about it.
    pub problem: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}`: {}", self.place, self.entry, self.problem)
    }
}

/// More warnings than this help nobody.
const MAX_WARNINGS: usize = 100;

/// Finds the rules of a policy that can never decide anything, or decide about too much.
#[must_use]
pub fn review(parts: &PolicyParts) -> Vec<Warning> {
    let allow = positions(&parts.allow);
    let deny = positions(&parts.deny);
    let allowed = parts.allow.iter().enumerate().filter_map(|(at, (pattern, rule))| {
        let problem = unreachable(pattern)
            .or_else(|| denied(parts, &deny, pattern, &rule.terms))
            .or_else(|| shadowed(parts, &allow, at))
            .or_else(|| shared(pattern));
        problem.map(|problem| warning(&rule.place, &rule.label, problem))
    });
    let denied = parts.deny.iter().enumerate().filter_map(|(at, (_, rule))| {
        let problem = repeated(parts, &deny, at);
        problem.map(|problem| warning(&rule.place, &rule.label, problem))
    });
    let excepted = parts.exceptions.iter().filter_map(|(_, rule)| {
        needless(&rule.terms).map(|problem| warning(&rule.place, &rule.label, problem))
    });
    allowed.chain(denied).chain(excepted).take(MAX_WARNINGS).collect()
}

fn warning(place: &Place, label: &str, problem: String) -> Warning {
    Warning { place: place.clone(), entry: label.to_owned(), problem }
}

fn positions<T>(rules: &[(HostPattern, T)]) -> HostIndex<usize> {
    HostIndex::new(
        rules.iter().enumerate().map(|(at, (pattern, _))| (pattern.clone(), at)).collect(),
    )
}

/// Addresses that the guard refuses whatever is said.
fn unreachable(pattern: &HostPattern) -> Option<String> {
    let class = match pattern {
        HostPattern::Exact(host) => hard_class(IpNet::from(host.ip()?)),
        HostPattern::Range(net) => hard_class(*net),
        HostPattern::Below(_) | HostPattern::AtOrBelow(_) => None,
    };
    class.map(|class| {
        format!("can never be reached: the address guard refuses class {class} whatever is said")
    })
}

/// An exception for what is open to everybody, or to nobody.
fn needless(exception: &PrivateException) -> Option<String> {
    let net = exception.cidr();
    // A wide range may hold internal ones between its ends.
    let narrow = net.max_prefix_len() - net.prefix_len() <= 8;
    let public = [net.network(), net.broadcast()].map(classify) == [AddressClass::Public; 2];
    if narrow && public {
        return Some(format!("adds nothing: public addresses as those in {net} need no exception"));
    }
    hard_class(net).map(|class| {
        format!("can never open {net}: the address guard refuses class {class} whatever is said")
    })
}

/// A wildcard that does have an effect, and a wider one than most authors mean.
fn shared(pattern: &HostPattern) -> Option<String> {
    let domain = match pattern {
        HostPattern::Below(base) | HostPattern::AtOrBelow(base) => shared_below(base)?,
        HostPattern::Exact(_) | HostPattern::Range(_) => return None,
    };
    Some(format!("takes in hosts of unrelated owners: anybody can have a name below {domain}"))
}

/// The class of a range, when no exception can open it.
fn hard_class(net: IpNet) -> Option<AddressClass> {
    let ends: [IpAddr; 2] = [net.network(), net.broadcast()];
    let [first, last] = ends.map(classify);
    (first == last && first.is_hard()).then_some(first)
}

fn denied(
    parts: &PolicyParts,
    deny: &HostIndex<usize>,
    pattern: &HostPattern,
    rule: &AllowRule,
) -> Option<String> {
    let mut around = deny.covering(pattern).filter_map(|at| parts.deny.get(*at));
    let all =
        |over: &DenyRule| over.is_whole() && rule.ports.iter().all(|port| over.has_port(*port));
    let (_, over) = around.find(|(_, over)| all(&over.terms))?;
    Some(format!("can never allow anything: {} denies all of it", named(&over.place, &over.label)))
}

fn shadowed(parts: &PolicyParts, allow: &HostIndex<usize>, at: usize) -> Option<String> {
    let (pattern, rule) = parts.allow.get(at)?;
    let covers = |other: usize| {
        let (wider, over) = parts.allow.get(other)?;
        // Of two equal rules the later one is too many.
        let equal = wider == pattern && rule.terms.covers(&over.terms);
        (other != at && over.terms.covers(&rule.terms) && !(equal && other > at)).then_some(over)
    };
    let over = allow.covering(pattern).find_map(|other| covers(*other))?;
    Some(format!("adds nothing: {} allows all of it", named(&over.place, &over.label)))
}

fn repeated(parts: &PolicyParts, deny: &HostIndex<usize>, at: usize) -> Option<String> {
    let (pattern, rule) = parts.deny.get(at)?;
    let covers = |other: usize| {
        let (wider, over) = parts.deny.get(other)?;
        let equal = wider == pattern && rule.terms.covers(&over.terms);
        (other != at && over.terms.covers(&rule.terms) && !(equal && other > at)).then_some(over)
    };
    let over = deny.covering(pattern).find_map(|other| covers(*other))?;
    Some(format!("adds nothing: {} denies all of it", named(&over.place, &over.label)))
}

fn named(place: &Place, label: &str) -> String {
    format!("`{label}` ({place})")
}

#[cfg(test)]
mod tests {
    use crate::config::{Settings, Sources};

    fn problems(yaml: &str) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.yaml");
        std::fs::write(&path, yaml).unwrap();
        let sources = Sources { file: Some(path), ..Sources::default() };
        let warnings = Settings::load(&sources).unwrap().warnings;
        let short = |text: String| text.replace(&format!("{}/", directory.path().display()), "");
        warnings.iter().map(|warning| short(warning.to_string())).collect()
    }

    #[test]
    fn rules_without_effect_are_named_with_their_line_and_the_rule_in_the_way() {
        let found = problems(
            "version: 1\negress:\n  allow:\n  - host: '**.a.example'\n  - host: b.a.example\n  \
             - host: b.a.example\n    ports: [80]\n  - host: evil.example\n  - host: a.example\n  \
             - host: 169.254.0.0/16\n  - host: c.example\n  - host: c.example\n  deny:\n  \
             - host: '*.one.example'\n  - host: evil.example\n  - host: x.one.example\n",
        );
        assert_eq!(
            found,
            [
                "p.yaml:5: egress.allow[1]: `b.a.example`: adds nothing: `**.a.example` (p.yaml:4: egress.allow[0]) allows all of it",
                "p.yaml:8: egress.allow[3]: `evil.example`: can never allow anything: `evil.example` (p.yaml:15: egress.deny[1]) denies all of it",
                "p.yaml:9: egress.allow[4]: `a.example`: adds nothing: `**.a.example` (p.yaml:4: egress.allow[0]) allows all of it",
                "p.yaml:10: egress.allow[5]: `169.254.0.0/16`: can never be reached: the address guard refuses class link_local whatever is said",
                "p.yaml:12: egress.allow[7]: `c.example`: adds nothing: `c.example` (p.yaml:11: egress.allow[6]) allows all of it",
                "p.yaml:16: egress.deny[2]: `x.one.example`: adds nothing: `*.one.example` (p.yaml:14: egress.deny[0]) denies all of it",
            ]
        );
    }

    #[test]
    fn exceptions_that_open_nothing_are_named() {
        let found = problems(
            "version: 1\negress:\n  private_exceptions:\n  - { host: a.example, cidr: 10.0.0.0/8 }\n  \
             - { host: b.example, cidr: 169.254.0.0/16 }\n  - { host: c.example, cidr: 8.8.8.0/24 }\n  \
             - { host: d.example, cidr: 0.0.0.0/0 }\n",
        );
        assert_eq!(
            found,
            [
                "p.yaml:5: egress.private_exceptions[1]: `b.example`: can never open 169.254.0.0/16: the address guard refuses class link_local whatever is said",
                "p.yaml:6: egress.private_exceptions[2]: `c.example`: adds nothing: public addresses as those in 8.8.8.0/24 need no exception",
            ]
        );
    }

    #[test]
    fn rules_that_differ_in_any_way_are_not_warned_about() {
        let found = problems(
            "version: 1\negress:\n  allow:\n  - host: '*.a.example'\n  - host: a.example\n  \
             - { host: b.a.example, schemes: [http] }\n  - { host: c.a.example, ports: [8443] }\n  \
             - { host: api.example, methods: [GET] }\n  - { host: api.example, paths: [/x] }\n  \
             - host: 10.0.0.0/8\n  - { host: evil.example, ports: [443, 80] }\n  deny:\n  \
             - { host: evil.example, ports: [80] }\n",
        );
        assert!(found.is_empty(), "{found:?}");
    }
}
