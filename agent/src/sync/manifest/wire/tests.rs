use proptest::prelude::*;

use super::*;
use crate::{
    files::metadata::FileTime,
    sync::{
        archive::SkipReason,
        manifest::{Node, hash::ContentHash},
    },
};

fn read(text: &str) -> Result<Vec<Entry>, ManifestError> {
    ManifestReader::new(text.as_bytes()).collect()
}

fn written(entries: &[Entry]) -> String {
    let mut writer = ManifestWriter::new(Vec::new());
    for entry in entries {
        writer.append(entry).unwrap();
    }
    String::from_utf8(writer.finish().unwrap()).unwrap()
}

fn entry(path: &[u8], node: Node) -> Entry {
    let modified = FileTime { seconds: -3, nanoseconds: 999_999_999 };
    let path = WorkspacePath::parse(path).unwrap();
    Entry { path, node, mode: 0o640, modified, stamp: 0 }
}

#[test]
fn a_manifest_is_lines_of_json_with_an_end() {
    let hash = Some(ContentHash::of(b""));
    let entries = [
        entry(b"a", Node::File { size: 7, hash }),
        entry(b"caf\xe9", Node::Symlink(b"\xff".to_vec())),
        entry(b"p", Node::Skipped(SkipReason::Fifo)),
    ];
    let text = written(&entries);
    assert_eq!(
        text.lines().skip(1).collect::<Vec<_>>(),
        [
            "{\"path_base64\":\"Y2Fm6Q==\",\"kind\":\"symlink\",\"mode\":416,\
             \"mtime\":[-3,999999999],\"target_base64\":\"/w==\"}",
            "{\"path\":\"p\",\"kind\":\"fifo\",\"mode\":416,\"mtime\":[-3,999999999]}",
            "{\"entries\":3}",
        ]
    );
    assert_eq!(read(&text).unwrap(), entries);
}

#[test]
fn what_is_no_manifest_is_refused_with_its_line() {
    let end = "{\"entries\":1}\n";
    let file = |path: &str| format!("{{\"path\":\"{path}\",\"kind\":\"file\",\"mtime\":[0,0]}}\n");
    let long = file(&"x".repeat(70_000));
    for (text, expected) in [
        (String::new(), "cut after 0 entries"),
        (file("a"), "cut after 1 entries"),
        (format!("{}{{\"entries\":1}}", file("a")), "cut after 1 entries"),
        (format!("{}{{\"entries\":2}}\n", file("a")), "line 2 of the manifest"),
        (file("b") + &file("a") + end, "out of order"),
        (file("a") + &file("a") + end, "comes twice"),
        (file("../a") + end, "'..'"),
        (file("/a") + end, "absolute"),
        (long, "longer than 64 KiB"),
        ("{\"path\":\"a\"}\n".into(), "lacks 'kind'"),
        ("{\"path\":\"a\",\"kind\":\"symlink\"}\n".into(), "lacks 'target'"),
        ("{\"path\":\"a\",\"kind\":\"file\",\"x\":1}\n".into(), "unknown field"),
        ("{\"path_base64\":\"?\",\"kind\":\"file\"}\n".into(), "base64"),
    ] {
        let message = read(&text).unwrap_err().to_string();
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let name = proptest::collection::vec(any::<u8>(), 1..20);
    let hash = proptest::option::of(any::<[u8; 4]>().prop_map(|seed| ContentHash::of(&seed)));
    let node = prop_oneof![
        (any::<u64>(), hash).prop_map(|(size, hash)| Node::File { size, hash }),
        Just(Node::Directory),
        proptest::collection::vec(any::<u8>(), 1..20).prop_map(Node::Symlink),
        Just(Node::Skipped(SkipReason::Unreadable)),
    ];
    (name, node, 0_u32..0o1000, any::<i64>(), 0_u32..1_000_000_000).prop_filter_map(
        "a path",
        |(name, node, mode, seconds, nanoseconds)| {
            let path = WorkspacePath::parse(&name).ok()?;
            Some(Entry { path, node, mode, modified: FileTime { seconds, nanoseconds }, stamp: 0 })
        },
    )
}

proptest! {
    #[test]
    fn any_manifest_is_read_back(
        mut entries in proptest::collection::vec(any_entry(), 0..12), cut in any::<usize>(),
    ) {
        entries.sort_by(|left, right| order(&left.path, &right.path));
        entries.dedup_by(|left, right| left.path == right.path);
        let text = written(&entries);
        prop_assert_eq!(read(&text).unwrap(), entries);
        let cut = &text.as_bytes()[..cut % text.len()];
        prop_assert!(ManifestReader::new(cut).any(|entry| entry.is_err()));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _entries: Vec<_> = ManifestReader::new(bytes.as_slice()).collect();
    }
}
