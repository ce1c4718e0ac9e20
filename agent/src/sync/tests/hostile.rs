//! Archives whose senders mean harm, are cut, or ask for too much.

use super::*;

/// What each must be called in the error (nothing where the name has a space), and its members.
fn hostile_archives() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let mut long_header = member(EntryType::XHeader, "x", "", &[b'1'; 300 * 1024]);
    long_header.extend(file("a"));
    let mut huge = Header::new_ustar();
    huge.as_old_mut().name[..4].copy_from_slice(b"huge");
    huge.as_old_mut().size = [0xff; 12];
    huge.set_mode(0o644);
    huge.set_mtime(0);
    huge.set_cksum();
    let mut damaged = file("damaged");
    damaged[0] = b'D';
    let long_name = "n".repeat(256);
    let mut record = Vec::new();
    pax::append(&mut record, "path", long_name.as_bytes());
    let long_name = [member(EntryType::XHeader, "x", "", &record), file("short")].concat();
    let sparse = [member(EntryType::XHeader, "x", "", b"22 GNU.sparse.major=1\n"), file("s")];
    let link = |path, target| member(EntryType::Symlink, path, target, b"");
    vec![
        ("/etc/evil", vec![file("/etc/evil")]),
        ("../evil", vec![file("../evil")]),
        ("a/../../evil", vec![file("a/../../evil")]),
        ("link/evil", vec![link("link", "../outside"), file("link/evil")]),
        ("abs/evil", vec![link("abs", "/tmp"), file("abs/evil")]),
        ("there/evil", vec![file("there/evil")]),
        ("there/dir", vec![member(EntryType::Directory, "there/dir", "", b"")]),
        ("hard", vec![member(EntryType::Link, "hard", "../outside/secret", b"")]),
        ("char", vec![member(EntryType::Char, "char", "", b"")]),
        ("block", vec![member(EntryType::Block, "block", "", b"")]),
        ("fifo", vec![member(EntryType::Fifo, "fifo", "", b"")]),
        ("twice", vec![file("twice"), file("./twice")]),
        ("short name 255", vec![long_name]),
        ("300 KiB header", vec![long_header]),
        ("huge", vec![huge.as_bytes().to_vec()]),
        ("Damaged", vec![damaged]),
        ("s", sparse.to_vec()),
        ("g", vec![member(EntryType::XGlobalHeader, "g", "", b"10 path=x\n"), file("a")]),
        ("fat", vec![member(EntryType::Symlink, "fat", "x", b"content")]),
        ("empty-link", vec![link("empty-link", "")]),
        ("unknown", vec![member(EntryType::new(b'Q'), "unknown", "", b"")]),
        (".workspace-tmp-", vec![file(".workspace-tmp-0123456789abcdef")]),
    ]
}

#[test]
fn hostile_archives_name_the_entry_and_change_nothing_outside() {
    for resolver in [Resolver::Openat2, Resolver::Walk] {
        for (what, members) in hostile_archives() {
            let outer = tempfile::tempdir().unwrap();
            let (inside, outside) = (outer.path().join("inside"), outer.path().join("outside"));
            fs::create_dir(&outside).unwrap();
            fs::create_dir(&inside).unwrap();
            fs::write(outside.join("secret"), "secret").unwrap();
            symlink("../outside", inside.join("there")).unwrap();
            let before = picture(&outside);
            let root = Root::open_with(&inside, resolver).unwrap();
            let bytes = archive(&members);
            let result = unpack::unpack(&root, plainly(Limits::default()), &*bytes, &mut |_| {});
            let message = result.expect_err(what).to_string();
            assert!(message.contains(what) || what.contains(' '), "{what}: {message}");
            assert_eq!(picture(&outside), before, "{what}");
            assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 2, "{what}");
            let mut names = picture(&inside).into_keys();
            assert!(!names.any(|name| name.starts_with(b".workspace")), "{what}");
        }
    }
}

#[test]
fn a_link_is_replaced_by_a_file_or_directory_and_its_target_stays() {
    let outer = tempfile::tempdir().unwrap();
    let inside = outer.path().join("inside");
    fs::create_dir_all(outer.path().join("outside")).unwrap();
    fs::create_dir_all(&inside).unwrap();
    fs::write(outer.path().join("secret"), "secret").unwrap();
    symlink("../secret", inside.join("file")).unwrap();
    symlink("../outside", inside.join("dir")).unwrap();
    let members = [file("file"), member(EntryType::Directory, "dir/", "", b""), file("dir/new")];
    unpack_into(&inside, &archive(&members)).unwrap();
    assert_eq!(fs::read(outer.path().join("secret")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(outer.path().join("outside")).unwrap().count(), 0);
    assert_eq!(fs::read(inside.join("dir/new")).unwrap(), b"hostile");
    assert_eq!(fs::read(inside.join("file")).unwrap(), b"hostile");
}

#[test]
fn set_user_id_bits_do_not_travel() {
    let mut setuid = file("setuid");
    setuid[100..108].copy_from_slice(b"0004755\0");
    let mut header = Header::from_byte_slice(&setuid[..512]).clone();
    header.set_cksum();
    setuid[..512].copy_from_slice(header.as_bytes());
    let target = tempfile::tempdir().unwrap();
    unpack_into(target.path(), &archive(&[setuid])).unwrap();
    assert_eq!(fs::metadata(target.path().join("setuid")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn an_archive_cut_anywhere_is_an_error_and_leaves_no_part_of_a_file() {
    let bytes = archive(&[file("first"), file("second")]);
    for end in 0..bytes.len() {
        if end % 512 > 8 && end % 97 != 0 {
            continue;
        }
        let target = tempfile::tempdir().unwrap();
        let error = unpack_into(target.path(), &bytes[..end]).unwrap_err();
        assert!(matches!(error, UnpackError::Archive(ReadError::Truncated(_))), "{end}: {error}");
        for (name, (_, _, _, _, content)) in picture(target.path()) {
            assert!(!name.starts_with(b".workspace"));
            assert_eq!(content, b"hostile");
        }
    }
    assert!(unpack_into(tempfile::tempdir().unwrap().path(), &bytes).is_ok());
}

#[test]
fn the_directories_of_an_archive_that_is_cut_have_their_modes() {
    let directory = |path| member(EntryType::Directory, path, "", b"");
    let bytes = archive(&[directory("d/"), directory("d/e/"), file("d/e/f"), file("d/e/g")]);
    let cut = &bytes[..bytes.len() - 2048];
    let target = tempfile::tempdir().unwrap();
    unpack_into(target.path(), cut).unwrap_err();
    for path in ["d", "d/e"] {
        assert_eq!(fs::metadata(target.path().join(path)).unwrap().mode() & 0o777, 0o644, "{path}");
    }
    assert_eq!(fs::read(target.path().join("d/e/f")).unwrap(), b"hostile");
}

#[test]
fn the_limits_stop_at_the_entry_that_passes_them() {
    let bytes = archive(&[file("first"), file("second")]);
    for (limits, message) in [
        (Limits { max_entries: 1, max_bytes: 100 }, "more than 1 entries"),
        (Limits { max_entries: 9, max_bytes: 13 }, "more than 13 bytes"),
    ] {
        let target = tempfile::tempdir().unwrap();
        let root = Root::open(target.path()).unwrap();
        let error =
            unpack::unpack(&root, plainly(limits), &*bytes, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains(message) && error.contains("'second'"), "{error}");
        assert_eq!(picture(target.path()).len(), 1);
    }
}

#[test]
fn a_file_where_the_archive_has_a_directory_above_is_an_error() {
    let target = tempfile::tempdir().unwrap();
    let error = unpack_into(target.path(), &archive(&[file("a"), file("a/b")])).unwrap_err();
    let UnpackError::File(error) = error else { panic!("{error}") };
    assert_eq!(error.kind(), FileErrorKind::NotADirectory);
}

#[test]
fn a_quota_that_is_used_up_counts_as_a_full_disk() {
    let path = crate::files::WorkspacePath::parse(b"a").unwrap();
    for errno in [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT] {
        let error = crate::files::FileError::from_errno("unpack", &path, errno);
        let problem = Problem::from(UnpackError::File(error));
        assert_eq!((problem.status.as_u16(), problem.code), (507, "no_space"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_damaged_archive_never_panics_and_never_leaves_the_root(
        at in 0_usize..2000, value in any::<u8>(),
    ) {
        let link = member(EntryType::Symlink, "link", "../outside", b"");
        let mut bytes = archive(&[file("a"), link, file("b")]);
        let length = bytes.len();
        bytes[at % length] = value;
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir(outer.path().join("inside")).unwrap();
        let _result = unpack_into(&outer.path().join("inside"), &bytes);
        prop_assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1);
    }
}
