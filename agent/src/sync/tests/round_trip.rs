//! Trees that come back as they were.

use super::*;

#[test]
fn a_tree_comes_back_with_modes_times_links_and_odd_names() {
    let source = tempfile::tempdir().unwrap();
    let top = source.path();
    fs::create_dir_all(top.join("a/empty")).unwrap();
    fs::write(top.join("a/script"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(top.join("a/script"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::write(top.join(std::ffi::OsStr::from_bytes(b"caf\xe9\nline")), "odd").unwrap();
    let deep = top.join("d".repeat(120)).join("e".repeat(200));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("f".repeat(255)), vec![7; 700_001]).unwrap();
    symlink("/absolute/and/dangling", top.join("absolute")).unwrap();
    symlink("../".repeat(60), top.join("long-link")).unwrap();
    fs::set_permissions(top.join("a"), fs::Permissions::from_mode(0o555)).unwrap();
    let target = tempfile::tempdir().unwrap();
    let (bytes, packed) = pack_directory(top, &everything());
    let unpacked = unpack_into(target.path(), &bytes).unwrap();
    assert_eq!(picture(top), picture(target.path()));
    assert_eq!(packed, unpacked);
    assert_eq!((packed.files, packed.directories, packed.symlinks), (3, 4, 2));
    // A second time over what is there, read-only directory included, changes nothing.
    unpack_into(target.path(), &bytes).unwrap();
    assert_eq!(picture(top), picture(target.path()));
    for directory in [top, target.path()] {
        fs::set_permissions(directory.join("a"), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_mirror_has_the_times_of_its_directories_too() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir_all(source.path().join("a/b/c")).unwrap();
    for name in ["a/b/c/file", "a/b/file", "a/file", "z"] {
        fs::write(source.path().join(name), "x").unwrap();
    }
    let root = Root::open(source.path()).unwrap();
    for (seconds, path) in [(3, "a/b/c"), (2, "a/b"), (1, "a")] {
        let path = crate::files::WorkspacePath::parse(path.as_bytes()).unwrap();
        let modified = FileTime { seconds, nanoseconds: 7 };
        root.subroot(&path).unwrap().directory().set_own_modified(modified).unwrap();
    }
    let (bytes, _) = pack_directory(source.path(), &everything());
    let how = Unpacking::of(Purpose::Mirror(unpack::Removals::Ignore));
    let root = Root::open(target.path()).unwrap();
    unpack::unpack(&root, how, &*bytes, &mut |_| {}).unwrap();
    assert_eq!(picture(source.path()), picture(target.path()));
}

#[test]
fn what_cannot_be_carried_is_listed_on_both_ends_and_exclusions_are_left_out() {
    let source = tempfile::tempdir().unwrap();
    let top = source.path();
    fs::create_dir_all(top.join("node_modules/x")).unwrap();
    fs::write(top.join("kept"), "").unwrap();
    fs::write(top.join("left.o"), "").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(top.join("socket")).unwrap();
    let exclusions = Exclusions::new(&["*.o"], Defaults::Apply).unwrap();
    let (bytes, packed) = pack_directory(top, &exclusions);
    let target = tempfile::tempdir().unwrap();
    let unpacked = unpack_into(target.path(), &bytes).unwrap();
    assert_eq!(packed, unpacked);
    assert_eq!(
        serde_json::json!(unpacked.skipped),
        serde_json::json!([{"path": "socket", "kind": "socket"}])
    );
    assert_eq!(picture(target.path()).keys().collect::<Vec<_>>(), [b"kept"]);
}

#[test]
fn archives_of_the_tar_program_are_read_and_ours_are_read_by_it() {
    let Ok(version) = std::process::Command::new("tar").arg("--version").output() else {
        assert!(std::env::var_os("CI").is_none(), "the tar program is missing");
        return;
    };
    assert!(version.status.success());
    let source = tempfile::tempdir().unwrap();
    fs::create_dir(source.path().join("dir")).unwrap();
    fs::write(source.path().join("dir").join("n".repeat(180)), "content").unwrap();
    symlink("dir", source.path().join("link")).unwrap();
    for format in ["gnu", "pax", "ustar"] {
        let packed = std::process::Command::new("tar")
            .args(["--create", "--format", format, "--directory"])
            .arg(source.path())
            .arg(if format == "ustar" { "link" } else { "." })
            .output()
            .unwrap();
        let target = tempfile::tempdir().unwrap();
        let report = unpack_into(target.path(), &packed.stdout).unwrap();
        assert_eq!(report.symlinks, 1, "{format}");
    }
    let (bytes, _) = pack_directory(source.path(), &everything());
    let target = tempfile::tempdir().unwrap();
    fs::write(target.path().join("a.tar"), bytes).unwrap();
    let status = std::process::Command::new("tar")
        .args(["--extract", "--file", "a.tar"])
        .current_dir(target.path())
        .status()
        .unwrap();
    assert!(status.success());
    fs::remove_file(target.path().join("a.tar")).unwrap();
    assert_eq!(picture(source.path()), picture(target.path()));
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("not in a name", |byte| *byte != 0 && *byte != b'/');
    proptest::collection::vec(byte, 1..40)
        .prop_filter("not a name", |name| name != b"." && name != b"..")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_tree_comes_back(
        entries in proptest::collection::btree_map(
            any_name(),
            (0_u8..3, proptest::collection::vec(any::<u8>(), 1..2000), 0_u32..0o1000,
             -1_000_000_000_i64..4_000_000_000, 0_u32..1_000_000_000),
            0..12),
    ) {
        let source = tempfile::tempdir().unwrap();
        for (name, (kind, content, mode, seconds, nanoseconds)) in &entries {
            let path = source.path().join(std::ffi::OsStr::from_bytes(name));
            let modified = FileTime { seconds: *seconds, nanoseconds: *nanoseconds };
            match kind {
                0 => fs::create_dir(&path).unwrap(),
                1 => fs::write(&path, content).unwrap(),
                _ => symlink("target", &path).unwrap(),
            }
            if *kind < 2 {
                let mode = fs::Permissions::from_mode(mode | 0o700);
                fs::set_permissions(&path, mode).unwrap();
            }
            let root = Root::open(source.path()).unwrap();
            let name = crate::files::Name::parse(name).unwrap();
            root.directory().set_modified(name, modified).unwrap();
        }
        let (bytes, _) = pack_directory(source.path(), &everything());
        let target = tempfile::tempdir().unwrap();
        unpack_into(target.path(), &bytes).unwrap();
        prop_assert_eq!(picture(source.path()), picture(target.path()));
    }
}
