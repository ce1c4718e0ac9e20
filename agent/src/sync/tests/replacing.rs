//! Files that are there already: replaced, kept, or in the way.

use super::*;

/// An archive in which a file is to stand where a directory is.
fn replacing(notes: &[&str]) -> Vec<u8> {
    let mut writer = archive::writer::ArchiveWriter::new(Vec::new());
    let kind = archive::MemberKind::File(3);
    let modified = FileTime { seconds: 1, nanoseconds: 0 };
    let member = archive::Member { path: b"d".to_vec(), kind, mode: 0o644, modified };
    writer.append_small_file(&member, b"new").unwrap();
    for path in notes {
        writer.append_removed(path.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn a_file_replaces_a_directory_only_when_all_of_it_was_to_go() {
    for (noted, there) in [(&["d/x", "d/s", "d/s/y"][..], false), (&["d/x"], true)] {
        let target = tempfile::tempdir().unwrap();
        let at = |path: &str| target.path().join(path);
        fs::create_dir_all(at("d/s")).unwrap();
        fs::write(at("d/x"), "").unwrap();
        fs::write(at("d/s/y"), "excluded, or made meanwhile").unwrap();
        let root = Root::open(target.path()).unwrap();
        let before = fs::metadata(target.path()).unwrap().modified().unwrap();
        let how = Unpacking::of(Purpose::Mirror(unpack::Removals::Collect));
        let unpacked = unpack::unpack(&root, how, &*replacing(noted), &mut |_| {}).unwrap();
        assert!(at("d/x").exists(), "it was removed before anybody judged");
        let report = unpacked.settle(&root).unwrap();
        assert_eq!(at("d/s/y").exists(), there);
        assert_eq!((report.files, report.blocked.len()), if there { (0, 1) } else { (1, 0) });
        assert_eq!(at("d").is_file(), !there);
        assert_eq!(fs::read_dir(target.path()).unwrap().count(), 1, "something was left behind");
        assert_eq!(fs::metadata(target.path()).unwrap().modified().unwrap(), before);
    }
}

#[test]
fn what_waits_for_its_place_goes_with_a_transfer_that_fails_or_is_refused() {
    let target = tempfile::tempdir().unwrap();
    fs::create_dir(target.path().join("d")).unwrap();
    let root = Root::open(target.path()).unwrap();
    let bytes = replacing(&["d/x"]);
    let how = Unpacking::of(Purpose::Mirror(unpack::Removals::Collect));
    unpack::unpack(&root, how, &bytes[..bytes.len() - 512], &mut |_| {}).unwrap_err();
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 1);
    unpack::unpack(&root, how, &*bytes, &mut |_| {}).unwrap().discard(&root);
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 1);
    assert!(target.path().join("d").is_dir());
}

#[test]
fn what_is_not_wanted_or_was_changed_meanwhile_stays() {
    let target = tempfile::tempdir().unwrap();
    let at = |path: &str| target.path().join(path);
    for name in ["changed", "kept", "unwanted"] {
        fs::write(at(name), "old").unwrap();
    }
    let root = Arc::new(Root::open(target.path()).unwrap());
    let options = ScanOptions {
        exclusions: everything(),
        gitignore: false,
        hashes: false,
        unfinished: Unfinished::Leave,
    };
    let scan = Scan::new(Arc::clone(&root), options).map(Result::unwrap);
    let mut wanted: unpack::Wanted = scan.map(|entry| (entry.path.clone(), Some(entry))).collect();
    let path = |text: &str| crate::files::WorkspacePath::parse(text.as_bytes()).unwrap();
    wanted.remove(&path("unwanted"));
    wanted.insert(path("come"), None);
    wanted.insert(path("new"), None);
    fs::write(at("changed"), "changed meanwhile").unwrap();
    fs::write(at("come"), "has come meanwhile").unwrap();
    let names = ["changed", "come", "kept", "new", "unwanted"];
    let bytes = archive(&names.map(file));
    let how = Unpacking::of(Purpose::Mirror(unpack::Removals::Ignore));
    let selected = unpack::Selected { wanted: Some(&wanted), exclusions: None };
    let unpacked = unpack::unpack_selected(&root, how, selected, &*bytes, &mut |_| {}).unwrap();
    let texts = names.map(|name| fs::read_to_string(at(name)).unwrap());
    assert_eq!(texts, ["changed meanwhile", "has come meanwhile", "hostile", "hostile", "old"]);
    assert_eq!(unpacked.report.raced, ["changed", "come"]);
}
