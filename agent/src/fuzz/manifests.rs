//! Manifests and lists of changes.

use std::convert::Infallible;

use super::bytes;
use crate::{
    files::metadata::PERMISSION_BITS,
    sync::{
        diff::{
            Change, Criterion, Diff, changes,
            wire::{ChangeWriter, Plan, read_plan},
        },
        manifest::{
            Entry, Node, order,
            wire::{ManifestReader, ManifestWriter},
        },
    },
};

fn is_possible(entry: &Entry) {
    assert!(entry.mode <= PERMISSION_BITS);
    assert!(entry.modified.nanoseconds < 1_000_000_000);
    if let Node::Symlink(target) = &entry.node {
        assert!(!target.is_empty() && target.len() < 4096 && !target.contains(&0));
    }
}

fn written(entries: &[Entry]) -> Vec<u8> {
    let mut writer = ManifestWriter::new(Vec::new());
    for entry in entries {
        writer.append(entry).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn manifests() {
    bytes("manifests", |input| {
        let read = |bytes: &[u8]| ManifestReader::new(bytes).collect::<Result<Vec<_>, _>>();
        // What comes before the fault is judged as well: it is used before the fault is known.
        let entries: Vec<Entry> = ManifestReader::new(input).flatten().collect();
        assert!(entries.is_sorted_by(|left, right| order(&left.path, &right.path).is_lt()));
        entries.iter().for_each(is_possible);
        let again = written(&entries);
        assert_eq!(read(&again).unwrap(), entries);
        for cut in [again.len() / 2, again.len() - 1] {
            assert!(read(&again[..cut]).is_err());
        }
        if let Ok(whole) = read(input) {
            assert_eq!(whole, entries);
        }
        differences(&entries);
    });
}

fn each(entries: &[Entry]) -> impl Iterator<Item = Result<Entry, Infallible>> + '_ {
    entries.iter().cloned().map(Ok)
}

/// A tree differs from itself in nothing, and from nothing in everything.
fn differences(entries: &[Entry]) {
    let found = |source: &[Entry], target: &[Entry]| -> Vec<Change> {
        let diff = Diff::new(each(source), each(target), Criterion::SizeAndTime);
        changes::<_, _, Infallible>(diff).flatten().collect()
    };
    let is_skip = |change: &Change| matches!(change, Change::Skip(_));
    assert!(found(entries, entries).iter().all(is_skip));
    assert_eq!(found(entries, &[]).len(), entries.len());
}

#[test]
fn plans() {
    bytes("plans", |input| {
        let Ok(plan) = read_plan(input) else { return };
        plan.changes.iter().map(Change::entry).for_each(is_possible);
        let mut writer = ChangeWriter::new(Vec::new());
        for change in &plan.changes {
            writer.append(change).unwrap();
        }
        assert!(writer.changes() == plan.changes.len() as u64);
        let again: Plan =
            read_plan(writer.finish(plan.target_entries).unwrap().as_slice()).unwrap();
        assert_eq!(again, plan);
    });
}
