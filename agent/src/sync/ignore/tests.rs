use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use proptest::prelude::*;

use super::*;
use crate::sync::{
    exclude::{Defaults, Exclusions},
    manifest::{
        Node,
        scan::{Scan, ScanOptions, Unfinished},
    },
};

fn decide(text: &str, path: &str, kind: Kind) -> Option<bool> {
    Patterns::parse(text.as_bytes()).decide(path.as_bytes(), kind)
}

#[test]
fn patterns_mean_what_they_mean_to_git() {
    let (file, directory) = (Kind::File, Kind::Directory);
    for (text, path, kind, expected) in [
        ("*.o", "a/b.o", file, Some(true)),
        ("/x", "a/x", file, None),
        ("a/x", "b/a/x", file, None),
        ("a/**/x", "a/x", file, Some(true)),
        ("a/**/x", "a/b/c/x", file, Some(true)),
        ("a/**", "a", directory, None),
        ("**/x", "x", file, Some(true)),
        ("a/*", "a/b/c", file, None),
        ("a**b", "a/b", file, None),
        ("d/", "d", file, None),
        ("d/", "d", directory, Some(true)),
        ("{a,b}", "a", file, None),
        ("{a,b}", "{a,b}", file, Some(true)),
        ("a[!x]b/c", "a/b/c", file, None),
        ("[[:digit:]]", "7", file, Some(true)),
        ("[a-c]", "b", file, Some(true)),
        ("[]]", "]", file, Some(true)),
        ("[a", "[a", file, None),
        ("x\\ ", "x ", file, Some(true)),
        ("x  \r", "x", file, Some(true)),
        ("\\#x", "#x", file, Some(true)),
        ("#x", "#x", file, None),
        ("*\n!x", "x", file, Some(false)),
        ("!", "x", file, None),
    ] {
        assert_eq!(decide(text, path, kind), expected, "{text:?} {path}");
    }
}

#[test]
fn many_stars_take_no_longer_than_a_few() {
    // Each star more would double the time if every way to split the text were tried.
    let pattern = format!("{}b", "*a".repeat(200));
    assert_eq!(decide(&pattern, &"a".repeat(255), Kind::File), None);
}

#[test]
fn the_nearest_file_decides_and_a_directory_takes_what_is_in_it_along() {
    let tree = tempfile::tempdir().unwrap();
    let at = |path: &str| tree.path().join(path);
    fs::create_dir_all(at("sub/build")).unwrap();
    fs::write(at(".gitignore"), "*.log\nbuild/\n").unwrap();
    fs::write(at("sub/.gitignore"), "!keep.log\n").unwrap();
    let ignores = IgnoreFiles::new(Arc::new(Root::open(tree.path()).unwrap()));
    for (path, expected) in [
        ("x.log", true),
        ("keep.log", true),
        ("sub/keep.log", false),
        ("sub/x.log", true),
        ("sub/build/keep.log", true),
        ("none/x.log", true),
        ("x", false),
    ] {
        let parsed = WorkspacePath::parse(path.as_bytes()).unwrap();
        assert_eq!(ignores.exclude_with_parents(&parsed, Kind::File), expected, "{path}");
    }
}

#[test]
fn a_link_in_the_place_of_a_file_of_patterns_is_not_followed() {
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("patterns"), "*\n").unwrap();
    std::os::unix::fs::symlink("patterns", tree.path().join(".gitignore")).unwrap();
    let ignores = IgnoreFiles::new(Arc::new(Root::open(tree.path()).unwrap()));
    let path = WorkspacePath::parse(b"patterns").unwrap();
    assert!(!ignores.exclude_with_parents(&path, Kind::File));
}

const FILES: [&str; 12] = [
    "a", "b.o", "c/a", "c/b.o", "c/d/a", "c/d/b.o", "c/d/e/a", "f/a", "f/d/a", "f/d/b.o", "ab/a",
    "ab/x y",
];

/// The files of the tree that our scan finds.
fn scanned(tree: &Path) -> BTreeSet<String> {
    let root = Arc::new(Root::open(tree).unwrap());
    let exclusions = Exclusions::new::<&str>(&[], Defaults::Apply).unwrap();
    let options =
        ScanOptions { exclusions, gitignore: true, hashes: false, unfinished: Unfinished::Leave };
    let entries = Scan::new(root, options).map(Result::unwrap);
    let files = entries.filter(|entry| matches!(entry.node, Node::File { .. }));
    files.map(|entry| entry.path.to_string()).filter(|p| FILES.contains(&p.as_str())).collect()
}

/// Those that git does not ignore; nothing without git.
fn kept_by_git(tree: &Path) -> Option<BTreeSet<String>> {
    let mut git = Command::new("git")
        .args(["-c", "core.excludesFile=/dev/null", "check-ignore", "--no-index", "--stdin", "-z"])
        .current_dir(tree)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let input = FILES.map(|file| format!("{file}\0")).concat();
    git.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = git.wait_with_output().unwrap();
    assert!(output.status.code().is_some_and(|code| code < 2), "git check-ignore failed");
    let ignored = String::from_utf8(output.stdout).unwrap();
    let ignored: BTreeSet<&str> = ignored.split('\0').collect();
    Some(FILES.into_iter().filter(|f| !ignored.contains(f)).map(str::to_owned).collect())
}

/// A tree with these files of patterns, as a repository.
fn repository(patterns: &[(&str, String)]) -> Option<tempfile::TempDir> {
    let tree = tempfile::tempdir().unwrap();
    for file in FILES {
        let place = tree.path().join(file);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, "").unwrap();
    }
    for (directory, text) in patterns {
        fs::write(tree.path().join(directory).join(".gitignore"), text).unwrap();
    }
    let made = Command::new("git").args(["init", "--quiet"]).current_dir(tree.path()).status();
    match made {
        Ok(status) => assert!(status.success(), "git init failed"),
        Err(_) if std::env::var_os("WORKSPACE_TESTS_REQUIRE_ALL").is_some() => {
            panic!("git is not installed")
        }
        Err(_) => return None,
    }
    Some(tree)
}

fn any_pattern() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b",
        "c",
        "d",
        "e",
        "f",
        "o",
        ".",
        "*",
        "**",
        "?",
        "/",
        "/",
        "/**",
        "**/",
        "[a-c]",
        "[!a]",
        "[^/]",
        "[[:alpha:]]",
        "\\a",
        "{a,b}",
        " ",
        "\\ ",
        "x",
        "]",
        "[",
        "-",
    ]);
    let body = proptest::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat());
    ("!?", body, "/?").prop_map(|(not, body, slash)| format!("{not}{body}{slash}"))
}

fn any_file() -> impl Strategy<Value = String> {
    proptest::collection::vec(any_pattern(), 0..5).prop_map(|lines| lines.join("\n") + "\n")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn git_leaves_out_the_same(top in any_file(), c in any_file(), d in any_file()) {
        let patterns = [("", top), ("c", c), ("c/d", d)];
        if let Some(tree) = repository(&patterns) {
            let kept = kept_by_git(tree.path());
            prop_assert_eq!(Some(scanned(tree.path())), kept, "{:?}", patterns);
        }
    }
}
