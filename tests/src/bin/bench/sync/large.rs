//! One file of 1 GiB: new on the other side, and changed in one byte.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
    path::Path,
};

use anyhow::Result;

use super::{
    World, making, text,
    ways::{cp, hash, rsync, rsync_is_there},
};
use crate::{
    containers,
    contest::{Contender, Round, contest, timed},
    row::{Role, Row},
};

const SIZE: u64 = 1 << 30;
const ROUNDS: usize = 3;

pub(super) fn measure(world: &World) -> Result<Vec<Row>> {
    let source = world.local.path().join("large");
    fs::create_dir(&source)?;
    write_dense(&source.join("file"), SIZE)?;
    let mut rows = fresh(world, &source)?;
    rows.extend(changed(world, &source)?);
    fs::remove_dir_all(source)?;
    Ok(rows)
}

/// A file without holes, and without two blocks that are the same.
pub(super) fn write_dense(path: &Path, size: u64) -> Result<()> {
    const PIECE: usize = 1 << 20;
    let mut file = File::create(path)?;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut piece = vec![0; PIECE];
    for _ in 0..size / PIECE as u64 {
        for word in piece.chunks_exact_mut(8) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            word.copy_from_slice(&random.to_le_bytes());
        }
        file.write_all(&piece)?;
    }
    Ok(())
}

fn fresh(world: &World, source: &Path) -> Result<Vec<Row>> {
    let (container, file) = (containers::sleeping(), source.join("file"));
    let local = |way: &str, number: usize| world.local.path().join(format!("{way}{number}"));
    let copied = |number: usize| -> Result<f64> {
        let made = local("cp", number);
        fs::create_dir(&made)?;
        making(&made, || cp(&file, &made.join("file")))
    };
    let into_docker = || -> Result<Round<'_>, String> {
        let container = container.as_ref().map_err(String::clone)?;
        Ok(Box::new(|_| {
            let to = format!("{}:/tmp/large", container.id());
            let time = timed(|| containers::copy(text(&file)?, &to))?;
            containers::remove(container, "/tmp/large")?;
            Ok(time)
        }))
    };
    let by_rsync = || -> Result<Round<'_>, String> {
        rsync_is_there()?;
        Ok(Box::new(|number| {
            let made = local("rsync", number);
            making(&made, || rsync(source, &made))
        }))
    };
    let others = || {
        vec![
            Contender::new(Role::Floor, "cp", Box::new(copied)).at_most(1.5),
            Contender::perhaps("rsync -a", by_rsync()),
            Contender::perhaps("docker cp", into_docker()),
        ]
    };
    let push = |number| {
        let (made, name) = world.remote("large", number);
        making(&made, || world.push(source, &name))
    };
    let mut rows = contest("agent: push 1 file of 1 GiB", ROUNDS, push, others());
    let (there, name) = world.remote("large", ROUNDS);
    world.push(source, &name)?;
    let pull = |number| {
        let made = local("ours", number);
        making(&made, || world.pull(&name, &made))
    };
    rows.extend(contest("agent: pull 1 file of 1 GiB", ROUNDS, pull, others()));
    fs::remove_dir_all(there)?;
    Ok(rows)
}

fn changed(world: &World, source: &Path) -> Result<Vec<Row>> {
    let (there, name) = world.remote("changed", 0);
    let (here, far) = (source.join("file"), there.join("file"));
    let change = |path: &Path, number: usize| -> Result<()> {
        let byte = [u8::try_from(number % 256)?];
        Ok(File::options().write(true).open(path)?.write_all_at(&byte, SIZE / 3)?)
    };
    let others = || {
        let hashed: Round<'_> = Box::new(|_| timed(|| hash(&here)));
        vec![Contender::new(Role::Floor, "one hash of it", hashed).at_most(1.2)]
    };
    world.push(source, &name)?;
    let push = |number| {
        change(&here, number)?;
        timed(|| world.push(source, &name))
    };
    let what = "agent: push 1 GiB of which one byte has changed";
    let mut rows = contest(what, ROUNDS, push, others());
    let pull = |number| {
        change(&far, number + 100)?;
        timed(|| world.pull(&name, source))
    };
    let what = "agent: pull 1 GiB of which one byte has changed";
    rows.extend(contest(what, ROUNDS, pull, others()));
    fs::remove_dir_all(there)?;
    Ok(rows)
}
