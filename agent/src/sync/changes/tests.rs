use std::{fs, path::Path, time::SystemTime};

use super::{cursors::Cursors, *};
use crate::sync::{
    diff::Change,
    exclude::{Defaults, Exclusions},
    manifest::scan::ScanOptions,
};

fn watched() -> Watched {
    let exclusions = Exclusions::new::<&str>(&[], Defaults::Apply).unwrap();
    let options = ScanOptions { exclusions, hashes: false };
    Watched { selection: Selection { path: crate::files::WorkspacePath::root(), options } }
}

/// What has changed since the snapshot, and the next one.
fn look(directory: &Path, before: &Arc<Snapshot>) -> (Vec<String>, Arc<Snapshot>) {
    let root = Arc::new(Root::open(directory).unwrap());
    let (found, recorder) = compare(root, &watched(), Arc::clone(before));
    let told = found.map(|change| match change.unwrap() {
        Change::Create(entry) => format!("create {}", entry.path),
        Change::Update(entry) => format!("update {}", entry.path),
        Change::Touch(entry) => format!("touch {}", entry.path),
        Change::Remove(entry) => format!("remove {}", entry.path),
        Change::Skip(entry) => format!("skip {}", entry.path),
    });
    (told.collect(), Arc::new(recorder.finish()))
}

/// The snapshot of a tree when everything in it is old enough to be told from a later change.
fn settled(directory: &Path) -> Arc<Snapshot> {
    let (_, mut before) = look(directory, &Arc::default());
    loop {
        let (told, next) = look(directory, &before);
        if told.is_empty() {
            return next;
        }
        before = next;
    }
}

#[test]
fn every_way_of_changing_a_tree_is_noticed_and_nothing_else() {
    let tree = tempfile::tempdir().unwrap();
    let at = |name: &str| tree.path().join(name);
    for name in ["dir/written", "dir/replaced", "dir/gone", "moved/in", "same", "hidden-change"] {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs::write(at(name), "1").unwrap();
    }
    let before = settled(tree.path());
    assert_eq!(look(tree.path(), &before).0, [] as [String; 0]);
    fs::write(at("dir/written"), "2").unwrap();
    fs::write(at("dir/new"), "2").unwrap();
    fs::rename(at("dir/new"), at("dir/replaced")).unwrap();
    fs::remove_file(at("dir/gone")).unwrap();
    fs::rename(at("moved"), at("moved-on")).unwrap();
    // The same size, and its time set back.
    fs::write(at("hidden-change"), "2").unwrap();
    let file = fs::File::options().write(true).open(at("hidden-change")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let (told, _) = look(tree.path(), &before);
    assert_eq!(
        told,
        [
            "touch dir",
            "remove dir/gone",
            "update dir/replaced",
            "update dir/written",
            "update hidden-change",
            "remove moved",
            "remove moved/in",
            "create moved-on",
            "create moved-on/in",
        ]
    );
}

#[test]
fn what_changed_while_it_was_looked_at_is_told_again_rather_than_missed() {
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("young"), "1").unwrap();
    let (_, before) = look(tree.path(), &Arc::default());
    assert_eq!(look(tree.path(), &before).0, ["update young"]);
}

#[test]
fn cursors_are_of_one_life_and_the_oldest_are_forgotten() {
    let cursors = Cursors::new("boot");
    let first = cursors.reserve();
    cursors.keep(&first, Arc::new(watched()), Snapshot::default());
    assert!(cursors.find(first.to_string().as_bytes()).is_ok());
    for unknown in ["", "boot-1", "other-0", "../x"] {
        let problem = cursors.find(unknown.as_bytes()).unwrap_err();
        assert_eq!((problem.status.as_u16(), problem.code), (410, "unknown_cursor"), "{unknown}");
    }
    for _ in 0..40 {
        cursors.keep(&cursors.reserve(), Arc::new(watched()), Snapshot::default());
    }
    assert!(cursors.find(first.to_string().as_bytes()).is_err());
}
