//! Paths, queries, patterns, names of signals, forwards.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Component, Path},
};

use super::{bytes, corpus, text};
use crate::{
    exec::{
        query::{self, EndQuery, OutputQuery, StartQuery},
        request::MAX_KILL_GRACE_MS,
        signal,
    },
    files::{
        Name, WorkspacePath,
        metadata::{Kind, PERMISSION_BITS},
        path::{MAX_PATH, percent_decode, percent_encode, printable},
        query::Query,
    },
    forward::spec::ForwardSpec,
    sync::exclude::{Defaults, Exclusions, patterns_of},
};

/// Beneath the root, in one spelling, and the same again whatever way it takes.
fn stays_inside(path: &WorkspacePath) {
    assert!(path.as_bytes().len() <= MAX_PATH);
    for component in
        Path::new("/root").join(OsStr::from_bytes(path.as_bytes())).components().skip(1)
    {
        assert!(matches!(component, Component::Normal(_)), "{component:?}");
    }
    assert_eq!(WorkspacePath::parse(path.as_bytes()).as_ref(), Ok(path));
    assert_eq!(WorkspacePath::from_url(&path.to_url()).as_ref(), Ok(path));
    let mut built = WorkspacePath::root();
    for name in path.names() {
        assert_eq!(Name::parse(name.as_bytes()), Ok(name));
        built.push(name).unwrap();
    }
    assert_eq!(&built, path);
    if let Some((mut parent, name)) = path.split_last() {
        assert!(path.starts_with(&parent));
        parent.push(name).unwrap();
        assert_eq!(&parent, path);
    }
    assert!(!path.to_string().contains(char::is_control));
}

#[test]
fn paths() {
    bytes("paths", |input| {
        for path in
            [WorkspacePath::parse(input), WorkspacePath::from_url(&String::from_utf8_lossy(input))]
        {
            match path {
                Ok(path) => stays_inside(&path),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
        assert_eq!(percent_decode(percent_encode(input).as_bytes()).as_deref(), Ok(input));
        assert!(!printable(input).contains(char::is_control));
    });
}

#[test]
fn queries() {
    text("queries", |input| {
        of_files(input);
        if let Ok(asked) = EndQuery::parse(Some(input)) {
            assert!(asked.grace_ms.is_none_or(|ms| ms <= MAX_KILL_GRACE_MS));
        }
        // What one call takes is foreign to another: no parameter is passed over in silence.
        let taken = [
            EndQuery::parse(Some(input)).is_ok_and(|asked| asked != EndQuery::default()),
            StartQuery::parse(Some(input)).is_ok_and(|_| input.contains("background")),
            OutputQuery::parse(Some(input)).is_ok_and(|_| input.contains("follow")),
            query::attach(Some(input)).is_ok_and(|_| input.contains("_from")),
        ];
        let takers = taken.into_iter().filter(|taken| *taken).count();
        // The offsets belong to two of them.
        assert!(takers <= 1 || input.contains("_from"), "{takers} calls take it");
        if takers > 0 {
            assert!(query::none(Some(input)).is_err());
        }
    });
}

fn of_files(input: &str) {
    let Ok(mut query) = Query::parse(Some(input)) else { return };
    if let Ok(path) = query.take_path("path") {
        stays_inside(&path);
    }
    if let Ok(Some(mode)) = query.take_mode("mode") {
        assert!(mode <= PERMISSION_BITS);
    }
    // What was decoded and encoded again is the same.
    let values = query.take_all("exclude");
    let again: String =
        values.iter().map(|value| format!("exclude={}&", percent_encode(value))).collect();
    assert_eq!(Query::parse(Some(&again)).unwrap().take_all("exclude"), values);
    if query.finish().is_ok() {
        let names = input.split('&').filter(|pair| !pair.is_empty());
        let names = names.map(|pair| pair.split('=').next().unwrap_or_default().replace('+', " "));
        let known = [&b"path"[..], b"mode", b"exclude"];
        let decoded = |name: &str| percent_decode(name.as_bytes()).unwrap();
        assert!(names.into_iter().all(|name| known.contains(&decoded(&name).as_slice())));
    }
}

/// Compiling one costs a millisecond.
#[test]
fn patterns() {
    let path = |text: &str| WorkspacePath::parse(text.as_bytes()).unwrap();
    let (plain, deep) = (path("plain.txt"), path("some/where/plain.txt"));
    corpus("patterns", 2000).run(|input| {
        let input = &*String::from_utf8_lossy(input);
        let patterns: Vec<&str> = patterns_of(input).collect();
        assert!(patterns.iter().all(|pattern| !pattern.is_empty() && !pattern.contains('\n')));
        let compiled =
            |last: &[&str]| Exclusions::new(&[patterns.as_slice(), last].concat(), Defaults::Apply);
        if let Err(error) = compiled(&[]) {
            assert!(error.to_string().len() < 1000 + input.len());
            return;
        }
        // Whatever came before, the last one decides.
        for (last, expected) in [("plain.txt", true), ("!plain.txt", false)] {
            let exclusions = compiled(&[last]).unwrap();
            for path in [&plain, &deep] {
                assert_eq!(exclusions.exclude(path, Kind::File), expected, "{last} {path}");
            }
        }
        let exclusions = compiled(&["plain.txt", "plain.txt/", "!plain.txt/"]).unwrap();
        assert!(
            exclusions.exclude(&plain, Kind::File) && !exclusions.exclude(&plain, Kind::Directory)
        );
    });
}

#[test]
fn signals() {
    text("signals", |input| {
        let Some(number) = signal::number(input) else { return };
        assert_eq!(signal::number(&signal::name(i32::from(number))), Some(number));
        assert!(input.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{input} is no name");
    });
}

#[test]
fn forwards() {
    text("forwards", |input| {
        let Ok(forward) = input.parse::<ForwardSpec>() else { return };
        assert_eq!(forward.to_string().parse().as_ref(), Ok(&forward));
    });
}
