//! The rules in force: read without locks, replaced as a whole.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use thiserror::Error;

use super::document::{Document, RuleLimits};
use super::rule::McpRule;
use crate::host::HostPort;
use crate::refusal::Refusal;

/// Which change of which process: a restart, which loses all rules, is visible in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    boot: Arc<str>,
    number: u64,
}

/// The revision that a caller believes to be in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The count alone.
    Number(u64),
    /// The revision as it was shown.
    Exactly(String),
}

/// Another revision is in force than the caller expected.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("revision {revision} is in force, not the expected one; read the rules and try again")]
pub struct Conflict {
    /// The revision in force.
    pub revision: Revision,
}

/// All rules at one moment.
#[derive(Debug)]
pub struct RuleSet {
    revision: Revision,
    rules: BTreeMap<String, Arc<McpRule>>,
    /// The same by where they lead, those without a header to inject apart.
    by_destination: HashMap<HostPort, Vec<Arc<McpRule>>>,
}

/// A handle to the rules in force. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RuleStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    current: ArcSwap<RuleSet>,
    /// Held while one set takes the place of another, so that no change is lost between reading
    /// the revision and swapping.
    changing: Mutex<()>,
    limits: RuleLimits,
}

impl Revision {
    fn first() -> Self {
        let boot = format!("{:08x}", fastrand::u32(..));
        Self { boot: boot.into(), number: 0 }
    }

    fn next(&self) -> Self {
        Self { boot: Arc::clone(&self.boot), number: self.number + 1 }
    }

    /// How many changes this process has made.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Whether this is what a caller expected.
    #[must_use]
    pub fn is(&self, expected: &Expected) -> bool {
        match expected {
            Expected::Number(number) => *number == self.number,
            Expected::Exactly(text) => {
                *text == self.to_string() || *text == self.number.to_string()
            }
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.boot, self.number)
    }
}

impl RuleSet {
    fn new(revision: Revision, rules: BTreeMap<String, Arc<McpRule>>) -> Self {
        let mut by_destination: HashMap<_, Vec<_>> = HashMap::new();
        for rule in rules.values().filter(|rule| !rule.headers.is_empty()) {
            let there = by_destination.entry(rule.base.host_port.clone()).or_default();
            there.push(Arc::clone(rule));
        }
        Self { revision, rules, by_destination }
    }

    /// The revision of this set.
    #[must_use]
    pub const fn revision(&self) -> &Revision {
        &self.revision
    }

    /// The rule for `/mcp/{name}`. Names are compared as they are written, without decoding.
    ///
    /// # Errors
    /// [`Refusal::UnknownRoute`] where there is none, [`Refusal::RuleExpired`] where it is over.
    pub fn server(&self, name: &str, now: SystemTime) -> Result<Arc<McpRule>, Refusal> {
        let rule = self.rules.get(name).ok_or(Refusal::UnknownRoute)?;
        if rule.is_expired(now) {
            return Err(Refusal::RuleExpired);
        }
        Ok(Arc::clone(rule))
    }

    /// The name of a rule in force that leads to a destination with a credential.
    #[must_use]
    pub fn leading_to(&self, at: &HostPort, now: SystemTime) -> Option<&str> {
        let mut rules = self.by_destination.get(at)?.iter();
        rules.find(|rule| !rule.is_expired(now)).map(|rule| rule.name.as_str())
    }

    /// All rules in the order of their names, expired ones included.
    pub fn rules(&self) -> impl Iterator<Item = &McpRule> {
        self.rules.values().map(AsRef::as_ref)
    }

    /// How many rules there are, expired ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

impl RuleStore {
    /// A store without rules.
    #[must_use]
    pub fn new(limits: RuleLimits) -> Self {
        let first = RuleSet::new(Revision::first(), BTreeMap::new());
        Self(Arc::new(Shared {
            current: ArcSwap::from_pointee(first),
            changing: Mutex::new(()),
            limits,
        }))
    }

    /// The rules of this moment, to be taken once for each request.
    #[must_use]
    pub fn snapshot(&self) -> Arc<RuleSet> {
        self.0.current.load_full()
    }

    /// What documents may say.
    #[must_use]
    pub fn limits(&self) -> &RuleLimits {
        &self.0.limits
    }

    /// Puts `document` in place of all rules, if the revision in force is the one that both the
    /// document and the caller's `expected` name.
    ///
    /// # Errors
    /// Another revision is in force; nothing was changed.
    pub fn replace(
        &self,
        document: Document,
        expected: Option<&Expected>,
    ) -> Result<Arc<RuleSet>, Conflict> {
        // The guarded value is (), so a panic elsewhere cannot have left it broken.
        let _changing = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.snapshot();
        let wanted = [expected, document.expected.as_ref()];
        if wanted.into_iter().flatten().any(|wanted| !current.revision.is(wanted)) {
            return Err(Conflict { revision: current.revision.clone() });
        }
        let next = Arc::new(successor(&current, document.rules));
        self.0.current.store(Arc::clone(&next));
        for (name, rule) in &current.rules {
            if !next.rules.contains_key(name) {
                rule.withdraw();
            }
        }
        Ok(next)
    }
}

fn successor(current: &RuleSet, rules: Vec<McpRule>) -> RuleSet {
    let rules = rules.into_iter().map(|rule| {
        let former = current.rules.get(&rule.name).map(AsRef::as_ref);
        (rule.name.clone(), Arc::new(rule.succeeding(former)))
    });
    RuleSet::new(current.revision.next(), rules.collect())
}

#[cfg(test)]
mod tests;
