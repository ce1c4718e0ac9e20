use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::Path,
};

use http_body_util::BodyExt;
use proptest::prelude::*;
use serde_json::Value;
use tar::{EntryType, Header};
use workspace_common::body::{empty, full};

use super::{
    archive::{ReadError, Report},
    exclude::{Defaults, Exclusions},
    manifest::scan::{Scan, ScanOptions},
    unpack::{Purpose, UnpackError, Unpacking},
    *,
};
use crate::files::{FileErrorKind, metadata::FileTime, resolve::Resolver};

fn everything() -> Exclusions {
    Exclusions::new::<&str>(&[], Defaults::Ignore).unwrap()
}

fn pack_directory(directory: &Path, exclusions: &Exclusions) -> (Vec<u8>, Report) {
    let root = Root::open(directory).unwrap();
    let root = Arc::new(root);
    let options = ScanOptions { exclusions: exclusions.clone(), hashes: false };
    let entries = pack::whole(Scan::new(Arc::clone(&root), options));
    pack::pack(&root, entries, Vec::new(), &mut |_| {}).unwrap()
}

fn unpack_into(directory: &Path, archive: &[u8]) -> Result<Report, UnpackError> {
    let root = Root::open(directory).unwrap();
    unpack::unpack(&root, plainly(Limits::default()), archive, &mut |_| {})
        .map(|unpacked| unpacked.report)
}

fn plainly(limits: Limits) -> Unpacking {
    Unpacking { limits, ..Unpacking::of(Purpose::Archive) }
}

/// Kind, mode, time in seconds and nanoseconds, and content.
type Seen = (char, u32, i64, i64, Vec<u8>);

/// Everything in a directory, by its path.
fn picture(directory: &Path) -> BTreeMap<Vec<u8>, Seen> {
    let mut found = BTreeMap::new();
    let mut todo = vec![directory.to_path_buf()];
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let (kind, content) = if metadata.is_symlink() {
                ('l', fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec())
            } else if metadata.is_dir() {
                todo.push(path.clone());
                ('d', Vec::new())
            } else {
                ('f', fs::read(&path).unwrap())
            };
            let name = path.strip_prefix(directory).unwrap().as_os_str().as_bytes().to_vec();
            let mode = if kind == 'l' { 0 } else { metadata.mode() & 0o7777 };
            found.insert(name, (kind, mode, metadata.mtime(), metadata.mtime_nsec(), content));
        }
    }
    found
}

fn member(entry_type: EntryType, path: &str, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(entry_type);
    header.set_mode(0o644);
    header.set_mtime(1);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(path: &str) -> Vec<u8> {
    member(EntryType::Regular, path, "", b"hostile")
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = members.concat();
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

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

#[tokio::test]
async fn a_push_is_answered_with_what_was_done_and_a_pull_brings_it_back() {
    let workspace = tempfile::tempdir().unwrap();
    let context =
        SyncContext::new(Arc::new(Root::open(workspace.path()).unwrap()), Transfers::new(4));
    let call = |method: Method, target: &str, body| {
        let path = target.split('?').next().unwrap().to_owned();
        let request = Request::builder().method(method).uri(format!("/v1/sync/{target}"));
        let request: Request<Body> = request.body(body).unwrap();
        let context = context.clone();
        async move {
            let answer = handle(&context, &path, request).await;
            let answer = answer.unwrap_or_else(|problem| problem.response());
            let status = answer.status().as_u16();
            (status, answer.into_body().collect().await.unwrap().to_bytes())
        }
    };
    let json = |bytes: &Bytes| serde_json::from_slice::<Value>(bytes).unwrap();
    let bytes = archive(&[file("a"), file("dir/b")]);
    let (status, answer) = call(Method::POST, "push?path=in/here", full(bytes.clone())).await;
    assert_eq!(status, 200);
    let expected = serde_json::json!({
        "files": 2, "directories": 0, "symlinks": 0, "bytes": 14, "unchanged": 0, "touched": 0,
        "removed": 0, "skipped": [], "skipped_total": 0
    });
    assert_eq!(json(&answer), expected);
    let (status, answer) = call(Method::GET, "pull?path=in&exclude=a", empty()).await;
    assert_eq!(status, 200);
    let target = tempfile::tempdir().unwrap();
    unpack_into(target.path(), &answer).unwrap();
    let names: Vec<_> = picture(target.path()).into_keys().collect();
    assert_eq!(names, [&b"here"[..], b"here/dir", b"here/dir/b"]);
    for (method, target, body, status, code) in [
        (Method::POST, "push", full(bytes[..600].to_vec()), 400, "archive_cut"),
        (Method::POST, "push", full(archive(&[file("../x")])), 400, "bad_archive"),
        (Method::POST, "push?path=../x", empty(), 400, "bad_path"),
        (Method::POST, "push?delete=maybe", empty(), 400, "bad_query"),
        (Method::POST, "push?path=in/here/a", full(bytes.clone()), 409, "not_a_directory"),
        (Method::GET, "push", empty(), 405, "method_not_allowed"),
        (Method::GET, "pull?path=none", empty(), 404, "not_found"),
        (Method::GET, "pull?exclude=a%5Bb", empty(), 400, "bad_exclude"),
        (Method::GET, "other", empty(), 404, "no_such_endpoint"),
    ] {
        let (got, answer) = call(method, target, body).await;
        assert_eq!((got, json(&answer)["code"].as_str()), (status, Some(code)), "{target}");
    }
}

#[test]
fn a_file_where_the_archive_has_a_directory_above_is_an_error() {
    let target = tempfile::tempdir().unwrap();
    let error = unpack_into(target.path(), &archive(&[file("a"), file("a/b")])).unwrap_err();
    let UnpackError::File(error) = error else { panic!("{error}") };
    assert_eq!(error.kind(), FileErrorKind::NotADirectory);
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

#[tokio::test]
async fn stalled_transfers_leave_room_for_others_and_further_ones_are_refused() {
    let workspace = tempfile::tempdir().unwrap();
    let root = Arc::new(Root::open(workspace.path()).unwrap());
    let context = SyncContext::new(root, Transfers::new(1));
    let stalled = context.transfers.begin().unwrap();
    let pull = || Request::builder().uri("/v1/sync/pull").body(empty()).unwrap();
    let refused = handle(&context, "pull", pull()).await.unwrap_err();
    assert_eq!((refused.status.as_u16(), refused.code), (429, "too_many_transfers"));
    drop(stalled);
    assert_eq!(handle(&context, "pull", pull()).await.unwrap().status(), 200);
}
