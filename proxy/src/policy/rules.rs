//! All rules of one kind, as the policy in force keeps them.
//!
//! Most rules of a long list say the same about different hosts, so what they say is kept once, and a
//! rule is a reference to it with the place where it stands.

use std::sync::Arc;

use crate::host::Host;
use crate::policy::index::{Hit, HostIndex};
use crate::policy::pattern::HostPattern;
use crate::policy::place::Place;
use crate::policy::rule::Written;

/// Distinct terms among which those of the next rule are looked for: enough for lists in which a few
/// kinds of rules take turns, and a bound on the time that a list of unlike rules takes.
const COMPARED: usize = 16;

/// Rules by host.
#[derive(Debug)]
pub struct Rules<T> {
    index: HostIndex<Entry>,
    terms: Vec<T>,
    sources: Vec<Source>,
}

/// A rule: positions in the two lists, and its place in its source.
#[derive(Clone, Copy, Debug)]
struct Entry {
    terms: u32,
    at: u32,
    line: u32,
    source: u16,
}

/// A list, and the file that it stands in.
#[derive(Debug, PartialEq)]
struct Source {
    list: &'static str,
    file: Option<Arc<str>>,
}

/// A rule that was found.
#[derive(Debug)]
pub struct Found<'a, T> {
    /// What it says.
    pub terms: &'a T,
    /// Its pattern in canonical form.
    pub pattern: &'a str,
    source: &'a Source,
    entry: Entry,
}

impl<T> Default for Rules<T> {
    fn default() -> Self {
        Self { index: HostIndex::default(), terms: Vec::new(), sources: Vec::new() }
    }
}

impl<T: PartialEq> Rules<T> {
    /// Keeps what is needed of the rules.
    #[must_use]
    pub fn new(written: Vec<(HostPattern, Written<T>)>) -> Self {
        let mut rules = Self::default();
        let entries = written.into_iter().map(|(pattern, rule)| (pattern, rules.entry(rule)));
        let entries = entries.collect();
        rules.index = HostIndex::new(entries);
        rules.terms.shrink_to_fit();
        rules
    }

    fn entry(&mut self, rule: Written<T>) -> Entry {
        let (line, file) = match rule.place.line {
            Some((file, line)) => (u32::try_from(line).unwrap_or(u32::MAX), Some(file)),
            None => (0, None),
        };
        let source = Source { list: rule.place.list, file };
        Entry {
            terms: position(recent_or_new(&mut self.terms, rule.terms)),
            at: position(rule.place.at),
            line,
            source: u16::try_from(recent_or_new(&mut self.sources, source)).unwrap_or(u16::MAX),
        }
    }
}

impl<T> Rules<T> {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Those that are about a host, the most specific names first.
    pub fn matching<'a, 'h>(
        &'a self,
        host: &'h Host,
    ) -> impl Iterator<Item = Found<'a, T>> + use<'a, 'h, T> {
        self.index.matching(host).filter_map(|hit| self.found(&hit))
    }

    fn found<'a>(&'a self, hit: &Hit<'a, Entry>) -> Option<Found<'a, T>> {
        let entry = *hit.rule;
        Some(Found {
            terms: self.terms.get(entry.terms as usize)?,
            pattern: hit.pattern,
            source: self.sources.get(usize::from(entry.source))?,
            entry,
        })
    }
}

impl<T> Found<'_, T> {
    /// Where it stands.
    #[must_use]
    pub fn place(&self) -> Place {
        let line = self.source.file.as_ref().map(|file| (Arc::clone(file), self.entry.line.into()));
        Place { list: self.source.list, at: self.entry.at as usize, line }
    }
}

/// The position of a value among the last ones of a list, where it is put unless it is there.
fn recent_or_new<V: PartialEq>(list: &mut Vec<V>, value: V) -> usize {
    let known = list.iter().rev().take(COMPARED).position(|known| *known == value);
    let back = known.unwrap_or(0);
    if known.is_none() {
        list.push(value);
    }
    list.len() - 1 - back
}

/// A policy file is far too small for a position beyond.
fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(list: &'static str, at: usize, terms: &'static str) -> Written<&'static str> {
        let line = Some(("p.yaml".into(), at as u64 + 10));
        Written { label: "as written".into(), place: Place { list, at, line }, terms }
    }

    #[test]
    fn equal_terms_are_kept_once_and_places_are_not_mixed_up() {
        let list = |at: usize| {
            let (list, terms) = if at.is_multiple_of(2) { ("a", "even") } else { ("b", "odd") };
            let pattern: HostPattern = format!("h{at}.example").parse().unwrap();
            (pattern, written(list, at, terms))
        };
        let rules = Rules::new((0..100).map(list).collect());
        assert_eq!((rules.len(), rules.terms.len(), rules.sources.len()), (100, 2, 2));
        for (at, terms, place) in [(0, "even", "p.yaml:10: a[0]"), (99, "odd", "p.yaml:109: b[99]")]
        {
            let host = Host::parse(&format!("H{at}.example")).unwrap();
            let found: Vec<_> = rules.matching(&host).collect();
            assert_eq!(found.len(), 1);
            assert_eq!((*found[0].terms, found[0].place().to_string()), (terms, place.to_owned()));
            assert_eq!(found[0].pattern, format!("h{at}.example"));
        }
    }

    #[test]
    fn a_rule_takes_little_room() {
        assert!(size_of::<Entry>() <= 16, "{}", size_of::<Entry>());
    }
}
