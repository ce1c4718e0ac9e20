//! Finds the rules for a host by hashing its suffixes.
//!
//! The cost of a look-up is one pass over the host, however many rules there are. Lists of
//! hundreds of thousands of names are in use, so a rule takes little room: the patterns stand one
//! behind the other in one text, and the rules of one name are a chain through the list of rules.

mod names;

use std::iter::successors;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::host::Host;
use crate::policy::index::names::Names;
use crate::policy::pattern::HostPattern;
use crate::policy::ranges::RangeMap;

/// Rules by host pattern.
#[derive(Debug)]
pub struct HostIndex<T> {
    rules: Vec<Stored<T>>,
    /// All patterns in canonical form.
    text: String,
    names: Names,
    ranges: RangeMap<u32>,
}

/// A rule with its pattern. Positions fit into 32 bits: a policy has a bounded size.
#[derive(Debug)]
struct Stored<T> {
    rule: T,
    start: u32,
    length: u16,
    reach: Reach,
    /// The next rule on the same name or range.
    next: Option<Link>,
}

/// The position of a rule; not zero, so that its absence costs nothing.
type Link = std::num::NonZeroU32;

/// Which hosts a rule on a name takes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// The name, or the addresses of the range.
    Itself,
    Below,
    Both,
}

impl Reach {
    /// Bytes before the name in the pattern: nothing, `*.`, `**.`.
    const fn prefix(self) -> usize {
        match self {
            Self::Itself => 0,
            Self::Below => 2,
            Self::Both => 3,
        }
    }
}

/// A rule that was found.
#[derive(Clone, Copy, Debug)]
pub struct Hit<'a, T> {
    /// The rule.
    pub rule: &'a T,
    /// Its pattern.
    pub pattern: &'a str,
}

impl<T> Default for HostIndex<T> {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl<T> HostIndex<T> {
    /// Indexes the rules. Those on one name are found in the order in which they stand here.
    #[must_use]
    pub fn new(entries: Vec<(HostPattern, T)>) -> Self {
        let mut index = Self {
            rules: Vec::with_capacity(entries.len()),
            text: String::new(),
            names: Names::with_room_for(entries.len()),
            ranges: RangeMap::default(),
        };
        // A rule goes to the front of its chain, so the last one has to come first.
        for (pattern, rule) in entries.into_iter().rev() {
            index.insert(&pattern, rule);
        }
        index.text.shrink_to_fit();
        index
    }

    /// How many rules there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules whose pattern takes in the host, the most specific names first.
    pub fn matching<'a, 'h>(
        &'a self,
        host: &'h Host,
    ) -> impl Iterator<Item = Hit<'a, T>> + use<'a, 'h, T> {
        // Most policies have no rule of one kind or another.
        let name = host.name().filter(|_| !self.is_empty());
        let names = name.into_iter();
        let by_name = names.flat_map(|name| self.around(name, |reach| reach != Reach::Below));
        let by_address = host.ip().into_iter().flat_map(|ip| self.by_address(ip));
        by_name.chain(by_address).map(|stored| self.hit(stored))
    }

    /// The rules whose pattern takes in every host that this one does, itself included.
    pub fn covering<'a>(
        &'a self,
        pattern: &'a HostPattern,
    ) -> Box<dyn Iterator<Item = &'a T> + 'a> {
        match pattern {
            HostPattern::Exact(host) => Box::new(self.matching(host).map(|hit| hit.rule)),
            HostPattern::Range(net) => {
                let heads = self.ranges.covering(*net);
                Box::new(heads.flat_map(|head| self.chain(Some(*head))).map(|stored| &stored.rule))
            }
            HostPattern::Below(base) => {
                let name = base.name().unwrap_or_default();
                let around = self.around(name, |reach| reach != Reach::Itself);
                Box::new(around.map(|stored| &stored.rule))
            }
            HostPattern::AtOrBelow(base) => {
                let name = base.name().unwrap_or_default();
                // Of the rules on the name itself, those that are only below it are too narrow.
                let around = self.around(name, |reach| reach == Reach::Both);
                Box::new(around.map(|stored| &stored.rule))
            }
        }
    }

    fn hit<'a>(&'a self, stored: &'a Stored<T>) -> Hit<'a, T> {
        Hit { rule: &stored.rule, pattern: self.pattern(stored) }
    }

    fn pattern(&self, stored: &Stored<T>) -> &str {
        let start = stored.start as usize;
        self.text.get(start..start + usize::from(stored.length)).unwrap_or_default()
    }

    fn name(&self, at: u32) -> &str {
        let stored = self.rules.get(at as usize);
        stored.and_then(|stored| self.pattern(stored).get(stored.reach.prefix()..)).unwrap_or("")
    }

    /// The rules on a name that `reach` as wanted, and those on names above it that take it in, the
    /// closest name first.
    fn around<'a, R>(
        &'a self,
        name: &str,
        reach: R,
    ) -> impl Iterator<Item = &'a Stored<T>> + use<'a, T, R>
    where
        R: Fn(Reach) -> bool + 'a,
    {
        let known = self.names.known(name, |at| self.name(at));
        let own = self.chain(known.itself).filter(move |stored| reach(stored.reach));
        let above = known.above.into_iter().chain(known.farther.into_iter().rev());
        let above = above.flat_map(|head| self.chain(Some(head)));
        own.chain(above.filter(|stored| stored.reach != Reach::Itself))
    }

    fn by_address(&self, ip: IpAddr) -> impl Iterator<Item = &Stored<T>> {
        self.ranges.containing(ip).flat_map(|head| self.chain(Some(*head)))
    }

    fn chain<'a>(&'a self, head: Option<u32>) -> impl Iterator<Item = &'a Stored<T>> + use<'a, T> {
        let at = |at: u32| self.rules.get(at as usize);
        successors(head.and_then(at), move |stored| at(stored.next?.get() - 1))
    }

    fn insert(&mut self, pattern: &HostPattern, rule: T) {
        let at = position(self.rules.len());
        let text = pattern.to_string();
        let reach = match pattern {
            HostPattern::Exact(_) | HostPattern::Range(_) => Reach::Itself,
            HostPattern::Below(_) => Reach::Below,
            HostPattern::AtOrBelow(_) => Reach::Both,
        };
        let start = position(self.text.len());
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        self.text.push_str(&text);
        let before = match addresses(pattern) {
            Some(net) => self.ranges.insert(net, at),
            None => {
                let name = text.get(reach.prefix()..).unwrap_or_default();
                let before = self.names.find(name, |at| self.name(at));
                self.names.replace(name, before, at);
                before
            }
        };
        let next = before.and_then(|at| Link::new(at + 1));
        self.rules.push(Stored { rule, start, length, reach, next });
    }
}

/// The addresses that a pattern is about, if it is not about names.
fn addresses(pattern: &HostPattern) -> Option<IpNet> {
    match pattern {
        HostPattern::Range(net) => Some(*net),
        HostPattern::Exact(host) => host.ip().map(IpNet::from),
        HostPattern::Below(_) | HostPattern::AtOrBelow(_) => None,
    }
}

/// A policy file is far too small for a position beyond.
fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
