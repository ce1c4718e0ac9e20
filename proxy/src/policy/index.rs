//! Finds the rules for a host by hashing its suffixes.
//!
//! The cost of a look-up is one hash per label of the host, however many rules there are.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::host::Host;
use crate::policy::pattern::HostPattern;
use crate::policy::ranges::RangeMap;

/// Rules by host pattern.
#[derive(Debug)]
pub struct HostIndex<T> {
    rules: Vec<T>,
    names: HashMap<Arc<str>, Slot>,
    addresses: HashMap<IpAddr, Vec<usize>>,
    ranges: RangeMap<usize>,
}

/// The rules that hang on one name.
#[derive(Debug, Default)]
struct Slot {
    at: Vec<usize>,
    below: Vec<usize>,
}

impl<T> Default for HostIndex<T> {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl<T> HostIndex<T> {
    /// Indexes the rules.
    #[must_use]
    pub fn new(entries: Vec<(HostPattern, T)>) -> Self {
        let mut index = Self {
            rules: Vec::with_capacity(entries.len()),
            names: HashMap::with_capacity(entries.len()),
            addresses: HashMap::new(),
            ranges: RangeMap::default(),
        };
        for (pattern, rule) in entries {
            index.insert(&pattern, rule);
        }
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
    ) -> impl Iterator<Item = &'a T> + use<'a, 'h, T> {
        let by_name = host.name().into_iter().flat_map(|name| self.by_name(name));
        let by_address = host.ip().into_iter().flat_map(|ip| self.by_address(ip));
        by_name.chain(by_address).filter_map(|at| self.rules.get(at))
    }

    /// The rules whose pattern takes in every host that this one does, itself included.
    pub fn covering<'a>(
        &'a self,
        pattern: &'a HostPattern,
    ) -> Box<dyn Iterator<Item = &'a T> + 'a> {
        let found: Box<dyn Iterator<Item = usize>> = match pattern {
            HostPattern::Exact(host) => return Box::new(self.matching(host)),
            HostPattern::Range(net) => Box::new(self.ranges.covering(*net).copied()),
            HostPattern::Below(base) => Box::new(self.below(base.name().unwrap_or_default())),
            HostPattern::AtOrBelow(base) => {
                let name = base.name().unwrap_or_default();
                let itself = self.names.get(name).map_or(&[][..], |slot| &slot.at);
                let above = self.below(name);
                let both = move |at: &usize| {
                    // Of the rules on the name itself, those that are only below it are too narrow.
                    let own = self.names.get(name).is_some_and(|slot| slot.below.contains(at));
                    !own || itself.contains(at)
                };
                Box::new(above.filter(both))
            }
        };
        Box::new(found.filter_map(|at| self.rules.get(at)))
    }

    fn below<'a>(&'a self, name: &'a str) -> impl Iterator<Item = usize> + 'a {
        let names = std::iter::once(name).chain(suffixes(name));
        names.filter_map(|suffix| self.names.get(suffix)).flat_map(|slot| &slot.below).copied()
    }

    fn by_name<'a, 'h>(&'a self, name: &'h str) -> impl Iterator<Item = usize> + use<'a, 'h, T> {
        let exact = self.names.get(name).into_iter().flat_map(|slot| &slot.at);
        let above =
            suffixes(name).filter_map(|suffix| self.names.get(suffix)).flat_map(|slot| &slot.below);
        exact.chain(above).copied()
    }

    fn by_address(&self, ip: IpAddr) -> impl Iterator<Item = usize> {
        let exact = self.addresses.get(&ip).into_iter().flatten().copied();
        exact.chain(self.ranges.containing(ip).copied())
    }

    fn insert(&mut self, pattern: &HostPattern, rule: T) {
        let at = self.rules.len();
        self.rules.push(rule);
        match pattern {
            HostPattern::Range(net) => self.ranges.insert(*net, at),
            HostPattern::Exact(host) => match host.ip() {
                Some(ip) => self.addresses.entry(ip).or_default().push(at),
                None => self.slot(host).at.push(at),
            },
            HostPattern::Below(base) => self.slot(base).below.push(at),
            HostPattern::AtOrBelow(base) => {
                let slot = self.slot(base);
                slot.at.push(at);
                slot.below.push(at);
            }
        }
    }

    fn slot(&mut self, host: &Host) -> &mut Slot {
        let name = host.name().unwrap_or_default();
        self.names.entry(name.into()).or_default()
    }
}

/// `b.c` and `c` of `a.b.c`.
fn suffixes(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |rest| rest.split_once('.').map(|(_, up)| up)).skip(1)
}
