use std::{collections::BTreeMap, convert::Infallible};

use proptest::prelude::*;

use super::{
    walk::{Merged, Policy, Winner, merge},
    *,
};
use crate::{
    files::{WorkspacePath, metadata::FileTime},
    sync::{archive::SkipReason, manifest::order},
};

fn entry(path: &str, node: Node, time: i64) -> Entry {
    let path = WorkspacePath::parse(path.as_bytes()).unwrap();
    let modified = FileTime { seconds: time, nanoseconds: 0 };
    Entry { path, node, mode: 0o644, modified, stamp: 0 }
}

/// A file whose content is told by its time.
fn file(path: &str, time: i64) -> Entry {
    entry(path, Node::File { size: 1, hash: None }, time)
}

fn directory(path: &str) -> Entry {
    entry(path, Node::Directory, 0)
}

type Tree = Vec<Entry>;

fn merged([base, source, target]: [&Tree; 3], policy: Policy) -> Vec<Merged> {
    let sorted = |tree: &Tree| {
        let mut tree = tree.clone();
        tree.sort_by(|left, right| order(&left.path, &right.path));
        tree.into_iter().map(Ok::<_, Infallible>)
    };
    merge(sorted(base), sorted(source), sorted(target), policy).unwrap()
}

const CAREFUL: Policy = Policy { winner: Winner::Nobody, deletes: true };

fn verdict(base: Option<Entry>, source: Option<Entry>, target: Option<Entry>) -> Verdict {
    States { base, source, target }.decide()
}

#[test]
fn who_has_changed_what_is_told_apart() {
    let at = |time| Some(file("f", time));
    let dir = || Some(directory("f"));
    let conflict = |source, target| Verdict::Conflict { source, target };
    for (states, expected) in [
        ([at(1), at(1), at(1)], Verdict::Agreed),
        ([at(1), at(2), at(2)], Verdict::Agreed),
        ([None, at(2), at(2)], Verdict::Agreed),
        ([at(1), None, None], Verdict::Agreed),
        ([at(1), at(2), at(1)], Verdict::Take),
        ([at(1), None, at(1)], Verdict::Take),
        ([None, at(1), None], Verdict::Take),
        ([at(1), dir(), at(1)], Verdict::Take),
        ([at(1), at(1), at(2)], Verdict::Leave),
        ([at(1), at(1), None], Verdict::Leave),
        ([None, None, at(1)], Verdict::Leave),
        ([at(1), at(2), at(3)], conflict(Did::Modified, Did::Modified)),
        ([at(1), None, at(3)], conflict(Did::Deleted, Did::Modified)),
        ([at(1), dir(), None], conflict(Did::Replaced, Did::Deleted)),
        ([None, at(1), at(2)], conflict(Did::Created, Did::Created)),
    ] {
        let [base, source, target] = states;
        assert_eq!(verdict(base.clone(), source.clone(), target.clone()), expected);
        let mirrored = match expected {
            Verdict::Take => Verdict::Leave,
            Verdict::Leave => Verdict::Take,
            Verdict::Conflict { source, target } => conflict(target, source),
            other => other,
        };
        assert_eq!(verdict(base, target, source), mirrored);
    }
}

#[test]
fn hashes_say_more_than_times_where_both_are_known() {
    use crate::sync::manifest::hash::ContentHash;
    let with = |hash: Option<&[u8]>, time| {
        Some(entry("f", Node::File { size: 1, hash: hash.map(ContentHash::of) }, time))
    };
    assert_eq!(verdict(None, with(Some(b"x"), 1), with(Some(b"x"), 2)), Verdict::Agreed);
    let hidden = verdict(with(None, 1), with(Some(b"x"), 1), with(Some(b"y"), 1));
    assert!(matches!(hidden, Verdict::Conflict { .. }), "{hidden:?}");
}

#[test]
fn beneath_what_cannot_be_read_nothing_is_done() {
    let base = vec![directory("d"), file("d/f", 1)];
    let unreadable = vec![entry("d", Node::Skipped(SkipReason::Unreadable), 0)];
    for sides in [[&base, &unreadable, &base], [&base, &base, &unreadable]] {
        let merged = merged(sides, CAREFUL);
        assert!(merged.iter().all(|merged| merged.verdict == Verdict::Unknown), "{merged:?}");
    }
}

#[test]
fn what_has_nowhere_to_go_is_a_conflict() {
    let base = vec![directory("d"), file("d/f", 1)];
    let grown = vec![directory("d"), file("d/f", 1), file("d/new", 1)];
    let turned = vec![file("d", 9)];
    let found = merged([&base, &grown, &turned], CAREFUL);
    assert!(found.iter().all(|merged| !merged.taken), "{found:?}");
    let at_new = found.iter().find(|merged| merged.path.as_bytes() == b"d/new").unwrap();
    let expected = Verdict::Conflict { source: Did::Modified, target: Did::Replaced };
    assert_eq!(at_new.verdict, expected);
}

#[test]
fn the_winner_takes_conflicts_and_nothing_else() {
    let (base, source, target) = (
        vec![file("f", 1), file("g", 1)],
        vec![file("f", 2), file("g", 1)],
        vec![file("f", 3), file("g", 4)],
    );
    for (winner, taken) in
        [(Winner::Nobody, false), (Winner::Source, true), (Winner::Target, false)]
    {
        let policy = Policy { winner, deletes: true };
        let found = merged([&base, &source, &target], policy);
        assert_eq!(found.iter().map(|merged| merged.taken).collect::<Vec<_>>(), [taken, false]);
    }
}

#[test]
fn without_leave_to_delete_nothing_is_removed_and_the_base_keeps_it() {
    let (base, source) = (vec![file("f", 1)], Vec::new());
    let policy = Policy { winner: Winner::Source, deletes: false };
    let found = merged([&base, &source, &base], policy);
    assert!(!found[0].taken && found[0].agreed() == Some(&base[0]), "{found:?}");
}

/// Trees over a few names, in which files may be where another tree has directories.
fn any_tree() -> impl Strategy<Value = Tree> {
    let names = ["a", "a/x", "a/y", "b", "b/x", "c"];
    let choices = proptest::collection::vec(0_i64..5, names.len());
    choices.prop_map(move |choices| {
        let mut tree: BTreeMap<&str, Entry> = BTreeMap::new();
        for (name, choice) in names.into_iter().zip(choices) {
            let inside = name.split_once('/').map(|(parent, _)| parent);
            let fits = inside.is_none_or(|parent| {
                tree.get(parent).is_some_and(|entry| entry.node == Node::Directory)
            });
            let made = match choice {
                _ if !fits => None,
                0 => None,
                4 => Some(directory(name)),
                time => Some(file(name, time)),
            };
            tree.extend(made.map(|entry| (name, entry)));
        }
        tree.into_values().collect()
    })
}

fn find(tree: &Tree, path: &WorkspacePath) -> Option<Entry> {
    tree.iter().find(|entry| entry.path == *path).cloned()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_change_of_the_target_is_ever_lost(
        base in any_tree(), source in any_tree(), target in any_tree(), wins in any::<bool>(),
    ) {
        let winner = if wins { Winner::Target } else { Winner::Nobody };
        for merged in merged([&base, &source, &target], Policy { winner, deletes: true }) {
            let (was, is) = (find(&base, &merged.path), find(&target, &merged.path));
            if merged.taken {
                // Only what the target has left alone is replaced.
                prop_assert_eq!(was, is);
            }
        }
    }

    #[test]
    fn every_entry_is_judged_once_and_in_order(
        base in any_tree(), source in any_tree(), target in any_tree(),
    ) {
        let merged = merged([&base, &source, &target], CAREFUL);
        prop_assert!(merged.is_sorted_by(|left, right| order(&left.path, &right.path).is_lt()));
        for entry in base.iter().chain(&source).chain(&target) {
            prop_assert!(merged.iter().any(|merged| merged.path == entry.path));
        }
    }

    #[test]
    fn both_directions_say_the_same_of_an_entry_by_itself(
        base in any_tree(), source in any_tree(), target in any_tree(),
    ) {
        let there = merged([&base, &source, &target], CAREFUL);
        let back = merged([&base, &target, &source], CAREFUL);
        for (there, back) in there.iter().zip(&back) {
            let fits = match (there.verdict, back.verdict) {
                (Verdict::Take, Verdict::Leave)
                | (Verdict::Leave, Verdict::Take)
                | (Verdict::Agreed, Verdict::Agreed)
                | (Verdict::Unknown, Verdict::Unknown) => true,
                (Verdict::Conflict { .. }, Verdict::Conflict { .. }) => true,
                // Beneath what stays on one side only, a change has nowhere to go in one direction.
                (Verdict::Conflict { .. }, Verdict::Leave)
                | (Verdict::Leave, Verdict::Conflict { .. }) => there.path.names().count() > 1,
                _ => false,
            };
            prop_assert!(fits, "{there:?} {back:?}");
        }
    }

    #[test]
    fn a_second_run_finds_nothing_to_take(
        base in any_tree(), source in any_tree(), target in any_tree(),
    ) {
        let first = merged([&base, &source, &target], CAREFUL);
        let next_base: Tree = first.iter().filter_map(|m| m.agreed().cloned()).collect();
        let next_target: Tree = first
            .iter()
            .filter_map(|m| if m.taken { m.states.source.clone() } else { m.states.target.clone() })
            .collect();
        for merged in merged([&next_base, &source, &next_target], CAREFUL) {
            prop_assert!(!merged.taken, "{merged:?}");
        }
    }
}
