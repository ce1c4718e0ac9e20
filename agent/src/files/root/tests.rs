use std::{
    fs,
    io::Read,
    os::unix::fs::symlink,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use super::*;
use crate::files::{
    remove::{Reach, remove},
    temporary::TemporaryFile,
};

/// A directory with a root inside and a secret beside it, tried with both mechanisms.
fn with_both(test: impl Fn(&Path, &Root)) {
    for resolver in [Resolver::Openat2, Resolver::Walk] {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("secret"), "secret").unwrap();
        fs::create_dir(outer.path().join("outside")).unwrap();
        fs::write(outer.path().join("outside/secret"), "secret").unwrap();
        let inner = outer.path().join("root");
        fs::create_dir(&inner).unwrap();
        test(&inner, &Root::open_with(&inner, resolver).unwrap());
    }
}

fn path(text: &str) -> WorkspacePath {
    WorkspacePath::parse(text.as_bytes()).unwrap()
}

fn read(root: &Root, name: &str) -> Result<String, FileErrorKind> {
    match root.open_for_reading(&path(name)).map_err(|error| error.kind())? {
        Opened::File(mut file, _) => {
            let mut content = String::new();
            file.read_to_string(&mut content).unwrap();
            Ok(content)
        }
        Opened::Directory(..) => Err(FileErrorKind::IsADirectory),
    }
}

#[test]
fn this_kernel_has_openat2_so_that_both_mechanisms_are_tested() {
    let root = Root::open(tempfile::tempdir().unwrap().path()).unwrap();
    assert_eq!(root.resolver(), Resolver::Openat2);
}

#[test]
fn files_and_links_beneath_the_root_are_opened() {
    with_both(|inner, root| {
        fs::create_dir_all(inner.join("a/b")).unwrap();
        fs::write(inner.join("a/b/file"), "content").unwrap();
        symlink("b", inner.join("a/link")).unwrap();
        symlink("../a/b/../link/file", inner.join("a/long")).unwrap();
        symlink(".", inner.join("a/here")).unwrap();
        symlink("..", inner.join("a/up")).unwrap();
        for name in ["a/b/file", "a/link/file", "a/long", "a/here/b/file", "a/up/a/long"] {
            assert_eq!(read(root, name), Ok("content".into()), "{name}");
        }
        assert_eq!(read(root, ""), Err(FileErrorKind::IsADirectory));
        assert_eq!(read(root, "a/up"), Err(FileErrorKind::IsADirectory));
        assert_eq!(read(root, "a/b/none"), Err(FileErrorKind::NotFound));
        assert_eq!(read(root, "a/b/file/x"), Err(FileErrorKind::NotADirectory));
    });
}

#[test]
fn no_link_leads_out_of_the_root() {
    with_both(|inner, root| {
        let outside = inner.parent().unwrap().join("outside");
        fs::create_dir(inner.join("dir")).unwrap();
        symlink(outside.join("secret"), inner.join("absolute")).unwrap();
        symlink("../secret", inner.join("relative")).unwrap();
        symlink("../../secret", inner.join("dir/climbing")).unwrap();
        symlink(&outside, inner.join("dir-absolute")).unwrap();
        symlink("../outside", inner.join("dir-relative")).unwrap();
        symlink("dir-relative/secret", inner.join("through")).unwrap();
        symlink("..", inner.join("parent")).unwrap();
        for name in [
            "absolute",
            "relative",
            "dir/climbing",
            "dir-absolute/secret",
            "dir-relative/secret",
            "dir-relative",
            "through",
            "parent",
            "parent/root",
        ] {
            assert_eq!(read(root, name), Err(FileErrorKind::OutsideRoot), "{name}");
        }
        for name in ["dir-relative/new", "dir-absolute/new", "parent/new"] {
            let error = root.parent("write", &path(name), Missing::Create).unwrap_err();
            assert_eq!(error.kind(), FileErrorKind::OutsideRoot, "{name}");
        }
    });
}

#[test]
fn links_in_a_circle_end_in_an_error() {
    with_both(|inner, root| {
        symlink("b", inner.join("a")).unwrap();
        symlink("a", inner.join("b")).unwrap();
        assert_eq!(read(root, "a"), Err(FileErrorKind::TooManyLinks));
    });
}

#[test]
fn where_links_are_refused_none_is_followed() {
    with_both(|inner, root| {
        fs::create_dir(inner.join("real")).unwrap();
        symlink("real", inner.join("link")).unwrap();
        assert!(root.open_directory(&path("real"), Links::Refuse).is_ok());
        for name in ["link", "link/deeper"] {
            let error = root.open_directory(&path(name), Links::Refuse).unwrap_err();
            assert_eq!(error.kind(), FileErrorKind::Link, "{name}");
        }
    });
}

#[test]
fn a_link_swapped_in_during_the_walk_never_reaches_the_outside() {
    with_both(|inner, root| {
        fs::create_dir(inner.join("real")).unwrap();
        fs::write(inner.join("real/secret"), "harmless").unwrap();
        symlink("../outside", inner.join("evil")).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let swapper = scope.spawn(|| {
                let current = inner.join("current");
                while !stop.load(Ordering::Relaxed) {
                    fs::rename(inner.join("real"), &current).unwrap();
                    fs::rename(&current, inner.join("real")).unwrap();
                    fs::rename(inner.join("evil"), &current).unwrap();
                    fs::rename(&current, inner.join("evil")).unwrap();
                }
            });
            for _ in 0..3000 {
                if let Ok(content) = read(root, "current/secret") {
                    assert_eq!(content, "harmless");
                }
            }
            stop.store(true, Ordering::Relaxed);
            swapper.join().unwrap();
        });
    });
}

#[test]
fn a_fifo_neither_blocks_nor_passes_for_a_file() {
    with_both(|inner, root| {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            inner.join("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        assert_eq!(read(root, "fifo"), Err(FileErrorKind::NotRegular));
    });
}

#[test]
fn missing_directories_are_made_one_by_one() {
    with_both(|inner, root| {
        let name = path("x/y/z/file");
        let (directory, last) = root.parent("write", &name, Missing::Create).unwrap();
        assert_eq!(last.as_bytes(), b"file");
        assert!(directory.metadata().is_ok());
        assert!(inner.join("x/y/z").is_dir());
        fs::write(inner.join("file"), "").unwrap();
        let error = root.create_directories(&path("file/x"), Links::Follow).unwrap_err();
        assert_eq!(error.kind(), FileErrorKind::NotADirectory);
    });
}

#[test]
fn removing_takes_links_and_never_their_targets() {
    with_both(|inner, root| {
        let outside = inner.parent().unwrap().join("outside");
        fs::create_dir_all(inner.join("tree/deep/er")).unwrap();
        fs::write(inner.join("tree/deep/er/file"), "").unwrap();
        symlink(&outside, inner.join("tree/deep/out")).unwrap();
        symlink(&outside, inner.join("out")).unwrap();
        let tried = remove(root, &path("tree"), Reach::Entry).unwrap_err();
        assert_eq!(tried.kind(), FileErrorKind::NotEmpty);
        remove(root, &path("tree"), Reach::Tree).unwrap();
        remove(root, &path("out"), Reach::Tree).unwrap();
        assert_eq!(fs::read_dir(inner).unwrap().count(), 0);
        assert!(outside.join("secret").exists());
        assert!(remove(root, &path(""), Reach::Tree).is_err());
    });
}

#[test]
fn an_unfinished_write_vanishes_and_a_finished_one_replaces() {
    with_both(|inner, root| {
        fs::write(inner.join("file"), "old").unwrap();
        let mut unfinished = TemporaryFile::create(root.directory()).unwrap();
        unfinished.write_all(b"half").unwrap();
        drop(unfinished);
        assert_eq!(fs::read_to_string(inner.join("file")).unwrap(), "old");
        let mut finished = TemporaryFile::create(root.directory()).unwrap();
        finished.write_all(b"new").unwrap();
        finished.publish(Name::parse(b"file").unwrap()).unwrap();
        assert_eq!(fs::read_to_string(inner.join("file")).unwrap(), "new");
        assert_eq!(fs::read_dir(inner).unwrap().count(), 1);
    });
}

#[test]
fn the_sweep_takes_litter_and_leaves_writes_in_progress() {
    with_both(|inner, root| {
        fs::create_dir_all(inner.join("a/b")).unwrap();
        let litter = inner.join("a/b/.workspace-tmp-0123456789abcdef");
        fs::write(&litter, "half").unwrap();
        fs::write(inner.join("a/.workspace-tmp-notes"), "kept").unwrap();
        let writing = TemporaryFile::create(root.directory()).unwrap();
        let swept = root.sweep_temporaries(100);
        assert_eq!((swept.removed, swept.complete), (1, true));
        assert!(!litter.exists());
        assert!(inner.join("a/.workspace-tmp-notes").exists());
        writing.publish(Name::parse(b"file").unwrap()).unwrap();
        assert!(!root.sweep_temporaries(1).complete);
    });
}
