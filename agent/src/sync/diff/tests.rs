use std::{collections::BTreeMap, convert::Infallible};

use proptest::prelude::*;

use super::*;
use crate::{
    files::metadata::FileTime,
    sync::{archive::SkipReason, manifest::hash::ContentHash},
};

fn entry(path: &str, node: Node, mode: u32, time: i64) -> Entry {
    let path = WorkspacePath::parse(path.as_bytes()).unwrap();
    let modified = FileTime { seconds: time, nanoseconds: 0 };
    Entry { path, node, mode, modified, stamp: 0 }
}

fn file(path: &str, size: u64, time: i64) -> Entry {
    entry(path, Node::File { size, hash: Some(ContentHash::of(&size.to_le_bytes())) }, 0o644, time)
}

fn compare(mut source: Vec<Entry>, mut target: Vec<Entry>, criterion: Criterion) -> Vec<Change> {
    source.sort_by(|left, right| order(&left.path, &right.path));
    target.sort_by(|left, right| order(&left.path, &right.path));
    let source = source.into_iter().map(Ok::<_, Infallible>);
    let target = target.into_iter().map(Ok::<_, Infallible>);
    changes(Diff::new(source, target, criterion)).collect::<Result<_, Infallible>>().unwrap()
}

fn word(change: &Change) -> &'static str {
    match change {
        Change::Create(_) => "create",
        Change::Update(_) => "update",
        Change::Touch(_) => "touch",
        Change::Remove(_) => "remove",
        Change::Skip(_) => "skip",
    }
}

#[test]
fn each_kind_of_difference_is_told_apart() {
    let source = vec![
        file("same", 1, 1),
        file("new", 1, 1),
        file("longer", 2, 1),
        file("later", 1, 2),
        entry("mode", Node::File { size: 1, hash: None }, 0o755, 1),
        entry("turned", Node::Directory, 0o755, 1),
        entry("link", Node::Symlink(b"b".to_vec()), 0o777, 1),
        entry("pipe", Node::Skipped(SkipReason::Fifo), 0, 0),
    ];
    let target = vec![
        file("same", 1, 1),
        file("longer", 1, 1),
        file("later", 1, 1),
        entry("mode", Node::File { size: 1, hash: None }, 0o644, 1),
        file("turned", 1, 1),
        entry("link", Node::Symlink(b"a".to_vec()), 0o777, 1),
        file("gone", 1, 1),
    ];
    let told: Vec<_> = compare(source, target, Criterion::SizeAndTime)
        .into_iter()
        .map(|change| (word(&change).to_owned(), change.entry().path.to_string()))
        .collect();
    let expected = [
        ("remove", "gone"),
        ("update", "later"),
        ("update", "link"),
        ("update", "longer"),
        ("touch", "mode"),
        ("create", "new"),
        ("skip", "pipe"),
        ("create", "turned"),
    ];
    assert_eq!(told, expected.map(|(what, path)| (what.to_owned(), path.to_owned())));
}

#[test]
fn hashes_decide_where_content_is_the_criterion() {
    let told = compare(
        vec![file("touched", 1, 2), file("changed", 1, 1)],
        vec![file("touched", 1, 1), {
            let hash = Some(ContentHash::of(b"other"));
            entry("changed", Node::File { size: 1, hash }, 0o644, 1)
        }],
        Criterion::Content,
    );
    assert!(matches!(&told[..], [Change::Update(_), Change::Touch(_)]), "{told:?}");
}

#[test]
fn what_the_source_could_not_read_is_not_taken_for_removed() {
    let source = vec![entry("closed", Node::Skipped(SkipReason::Unreadable), 0, 0)];
    let target = vec![
        entry("closed", Node::Directory, 0o755, 1),
        file("closed/a", 1, 1),
        file("closed/b/c", 1, 1),
        file("closed-not", 1, 1),
    ];
    let told = compare(source, target, Criterion::SizeAndTime);
    assert!(
        matches!(&told[..], [Change::Skip(_), Change::Remove(gone)]
        if gone.path.as_bytes() == b"closed-not"),
        "{told:?}"
    );
}

#[test]
fn the_first_error_of_either_side_is_the_last_thing_said() {
    let source = vec![Ok(file("a", 1, 1)), Err("broken")];
    let target = vec![Ok::<_, &str>(file("b", 1, 1)), Ok(file("c", 1, 1))];
    let diff = Diff::new(source.into_iter(), target.into_iter(), Criterion::SizeAndTime);
    let told: Vec<Result<Change, &str>> = changes(diff).collect();
    assert!(matches!(&told[..], [Ok(Change::Create(_)), Err("broken")]), "{told:?}");
}

/// A tree: each name is a file, a link, or a directory, and only a directory has entries.
fn any_tree() -> impl Strategy<Value = Vec<Entry>> {
    let item = ("[ab]/?[ab-]?/?[a-c]?", 0_u8..3, 1_u64..3, 0_u32..2, 1_i64..3);
    proptest::collection::vec(item, 0..12).prop_map(|items| {
        let mut entries = BTreeMap::new();
        for (path, kind, size, mode, time) in items {
            let parsed = WorkspacePath::parse(path.trim_matches('/').as_bytes()).unwrap();
            let mut above = parsed.clone();
            above.pop();
            let mut tops = Vec::new();
            while !above.is_root() {
                tops.push(above.clone());
                above.pop();
            }
            for top in tops {
                let text = String::from_utf8(top.as_bytes().to_vec()).unwrap();
                entries.insert(text.clone(), entry(&text, Node::Directory, 0o755, 1));
            }
            let text = String::from_utf8(parsed.as_bytes().to_vec()).unwrap();
            let node = match kind {
                0 => Node::File { size, hash: None },
                1 => Node::Symlink(vec![b'0' + u8::try_from(size).unwrap()]),
                _ => Node::Directory,
            };
            let beneath = format!("{text}/");
            if node != Node::Directory {
                entries.retain(|path, _| !path.starts_with(&beneath));
            }
            // The mode of a link means nothing.
            let mode = if kind == 1 { 0o777 } else { 0o600 | mode };
            entries.insert(text.clone(), entry(&text, node, mode, time));
        }
        entries.into_values().collect()
    })
}

proptest! {
    #[test]
    fn the_changes_make_the_target_the_source(source in any_tree(), target in any_tree()) {
        let by_path = |entries: &[Entry]| -> BTreeMap<Vec<u8>, Entry> {
            entries.iter().map(|e| (e.path.as_bytes().to_vec(), e.clone())).collect()
        };
        let mut made = by_path(&target);
        for change in compare(source.clone(), target.clone(), Criterion::SizeAndTime) {
            let path = change.entry().path.as_bytes().to_vec();
            match change {
                Change::Remove(entry) => assert_eq!(made.remove(&path), Some(entry)),
                Change::Create(entry) | Change::Update(entry) | Change::Touch(entry) => {
                    made.insert(path, entry);
                }
                Change::Skip(entry) => panic!("{entry:?}"),
            }
        }
        prop_assert_eq!(made, by_path(&source));
        prop_assert_eq!(compare(source.clone(), source, Criterion::SizeAndTime), []);
    }
}
