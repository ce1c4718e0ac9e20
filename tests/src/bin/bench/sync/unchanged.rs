//! A tree of 50,000 files that is the same on both sides.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex},
    thread,
};

use anyhow::Result;

use super::{
    World, fill,
    ways::{rsync, rsync_is_there},
};
use crate::{
    contest::{Contender, Round, contest, timed},
    row::{Role, Row},
};

const FILES: usize = 50_000;
const ROUNDS: usize = 5;
const FLOOR: &str = "a walk over both sides, two threads";

pub(super) fn measure() -> Result<Vec<Row>> {
    let world = World::new()?;
    let source = world.local.path().join("source");
    let copy = world.local.path().join("copy");
    fill(&source, FILES)?;
    let (there, name) = world.remote("many", 0);
    world.push(&source, &name)?;
    let mut rows = Vec::new();
    let what = |way: &str| format!("agent: {way} {FILES} files, none of them changed");
    let others = |target: PathBuf| others(&source, target, &copy);
    let push = |_| timed(|| world.push(&source, &name));
    rows.extend(contest(&what("push"), ROUNDS, push, others(there.clone())));
    let pull = |_| timed(|| world.pull(&name, &source));
    rows.extend(contest(&what("pull"), ROUNDS, pull, others(there)));
    Ok(rows)
}

fn others<'a>(source: &'a Path, target: PathBuf, copy: &'a Path) -> Vec<Contender<'a>> {
    let walks: Round<'a> = Box::new(move |_| {
        timed(|| {
            walk(source);
            walk(&target);
            Ok(())
        })
    });
    // The first time brings everything.
    let by_rsync = rsync_is_there()
        .and_then(|()| rsync(source, copy).map_err(|error| format!("{error:#}")))
        .map(|()| -> Round<'a> { Box::new(move |_| timed(|| rsync(source, copy))) });
    vec![
        Contender::new(Role::Floor, FLOOR, walks).at_most(1.5),
        Contender::perhaps("rsync -a", by_rsync),
    ]
}

/// Directories to be read, and how many are being read.
#[derive(Default)]
struct Pending {
    directories: Vec<PathBuf>,
    busy: usize,
}

/// Looks at every entry beneath a directory.
fn walk(top: &Path) {
    let pending = Mutex::new(Pending { directories: vec![top.to_owned()], busy: 0 });
    let changed = Condvar::new();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(directory) = next(&pending, &changed) {
                    let found = read(&directory);
                    let mut pending = pending.lock().expect("no thread panics with it");
                    pending.directories.extend(found);
                    pending.busy -= 1;
                    changed.notify_all();
                }
            });
        }
    });
}

fn next(pending: &Mutex<Pending>, changed: &Condvar) -> Option<PathBuf> {
    let mut pending = pending.lock().expect("no thread panics with it");
    loop {
        if let Some(directory) = pending.directories.pop() {
            pending.busy += 1;
            return Some(directory);
        }
        if pending.busy == 0 {
            return None;
        }
        pending = changed.wait(pending).expect("no thread panics with it");
    }
}

/// Looks at each entry of a directory (relative to it, as the agent does) and gives the directories.
fn read(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let seen = entries.filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        std::hint::black_box(metadata.mtime());
        metadata.is_dir().then(|| entry.path())
    });
    seen.collect()
}
