//! Archives unpacked into a root with a way out in it.

use std::{collections::BTreeSet, fs, os::unix::fs::symlink, path::Path};

use super::archives::corpus;
use crate::{
    files::Root,
    sync::unpack::{Limits, Purpose, Removals, Same, Unpacking, unpack},
};

/// Each makes a tree and takes it away again.
const RUNS: u64 = 1500;

const LIMITS: Limits = Limits { max_entries: 8, max_bytes: 4096 };

/// Paths and sizes of everything beneath a directory, links not followed.
fn everything(top: &Path) -> BTreeSet<(std::path::PathBuf, u64)> {
    let (mut found, mut pending) = (BTreeSet::new(), vec![top.to_owned()]);
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let metadata = fs::symlink_metadata(entry.path()).unwrap();
            if metadata.is_dir() {
                pending.push(entry.path());
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o700)).unwrap();
            }
            let size = if metadata.is_file() { metadata.len() } else { 0 };
            found.insert((entry.path().strip_prefix(top).unwrap().to_owned(), size));
        }
    }
    found
}

fn ways() -> [Unpacking; 3] {
    let of = |purpose, same| Unpacking { purpose, same, limits: LIMITS };
    [
        of(Purpose::Archive, Same::Write),
        of(Purpose::Mirror(Removals::Ignore), Same::LeaveAlone),
        of(Purpose::Mirror(Removals::Collect), Same::Write),
    ]
}

#[test]
fn unpacked_archives() {
    corpus(RUNS).run(|input| {
        for way in ways() {
            let outer = tempfile::tempdir().unwrap();
            let (inside, outside) = (outer.path().join("inside"), outer.path().join("outside"));
            fs::create_dir(&inside).unwrap();
            fs::create_dir(&outside).unwrap();
            fs::write(outside.join("file"), "untouched").unwrap();
            symlink("../outside", inside.join("link")).unwrap();
            let before = everything(&outside);
            let result = unpack(&Root::open(&inside).unwrap(), way, input, &mut |_| {});
            assert_eq!(everything(&outside), before);
            assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 2);
            let there = everything(&inside);
            let is_litter = |path: &Path| path.to_string_lossy().contains(".workspace-tmp-");
            assert!(!there.iter().any(|(path, _)| is_litter(path)), "{there:?}");
            assert!(there.iter().map(|(_, size)| size).sum::<u64>() <= LIMITS.max_bytes);
            if let Ok(unpacked) = result {
                let report = unpacked.report;
                assert!(report.entries() + report.unchanged <= LIMITS.max_entries);
                assert!(unpacked.removals.len() as u64 <= LIMITS.max_entries);
            }
        }
    });
}
