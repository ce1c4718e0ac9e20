use std::{collections::BTreeSet, fs, os::unix::fs::symlink, path::Path};

use super::*;
use crate::sync::{
    exclude::Defaults,
    manifest::{hash::ContentHash, order},
};

fn options(patterns: &[&str], hashes: bool) -> ScanOptions {
    ScanOptions { exclusions: Exclusions::new(patterns, Defaults::Apply).unwrap(), hashes }
}

fn scan(directory: &Path, options: ScanOptions) -> Vec<Entry> {
    let root = Arc::new(Root::open(directory).unwrap());
    Scan::new(root, options).collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_wide_and_deep_tree_is_given_whole_and_in_order() {
    let tree = tempfile::tempdir().unwrap();
    let mut expected = BTreeSet::new();
    for number in 0..60 {
        let directory = format!("d{number}/e{}/f", number % 7);
        fs::create_dir_all(tree.path().join(&directory)).unwrap();
        for file in 0..20 {
            let path = format!("{directory}/{file}");
            fs::write(tree.path().join(&path), "x").unwrap();
            expected.insert(path.into_bytes());
        }
    }
    let entries = scan(tree.path(), options(&[], false));
    assert!(entries.is_sorted_by(|left, right| order(&left.path, &right.path).is_lt()));
    let files = entries.iter().filter(|entry| matches!(entry.node, Node::File { size: 1, .. }));
    let files: BTreeSet<_> = files.map(|entry| entry.path.as_bytes().to_vec()).collect();
    assert_eq!(files, expected);
    assert_eq!(entries.len(), 60 * 20 + 60 * 3);
}

#[test]
fn kinds_hashes_and_exclusions_are_as_asked_for_and_temporary_files_are_hidden() {
    let tree = tempfile::tempdir().unwrap();
    let at = |name: &str| tree.path().join(name);
    fs::create_dir_all(at("node_modules/x")).unwrap();
    fs::write(at("a"), "abc").unwrap();
    fs::write(at("b.o"), "").unwrap();
    fs::write(at(".workspace-tmp-0123456789abcdef"), "").unwrap();
    symlink("nowhere", at("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let nodes: Vec<_> = scan(tree.path(), options(&["*.o"], true))
        .into_iter()
        .map(|entry| (entry.path.to_string(), entry.node))
        .collect();
    let hash = Some(ContentHash::of(b"abc"));
    assert_eq!(
        nodes,
        [
            ("a".to_owned(), Node::File { size: 3, hash }),
            ("link".to_owned(), Node::Symlink(b"nowhere".to_vec())),
            ("socket".to_owned(), Node::Skipped(SkipReason::Socket)),
        ]
    );
}

#[test]
fn a_directory_that_cannot_be_read_is_not_taken_for_an_empty_one() {
    let path = WorkspacePath::parse(b"closed").unwrap();
    for kind in [FileErrorKind::PermissionDenied, FileErrorKind::NotFound, FileErrorKind::Link] {
        let entry = unread(&path, FileError::new("list", &path, kind)).unwrap();
        assert_eq!(entry.node, Node::Skipped(SkipReason::Unreadable));
    }
    let error = FileError::new("list", &path, FileErrorKind::Busy);
    assert_eq!(unread(&path, error.clone()), Err(error));
    let missing = WorkspacePath::root();
    unread(&missing, FileError::new("list", &missing, FileErrorKind::NotFound)).unwrap_err();
}
