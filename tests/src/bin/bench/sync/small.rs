//! Files of 4 KiB that the other side does not have.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use workspace_tests::docker::Container;

use super::{
    World, fill, making, text,
    ways::{packed, rsync, rsync_is_there, tar_pipe},
};
use crate::{
    containers,
    contest::{Contender, Round, contest, timed},
    row::{Role, Row},
};

/// Up to so many files the predecessor's way is tried, too.
const FEW: usize = 10;

pub(super) fn measure(world: &World, files: usize, rounds: usize) -> Result<Vec<Row>> {
    let source = world.local.path().join(format!("files{files}"));
    fill(&source, files)?;
    let container = containers::sleeping();
    let mut rows = push(world, (&source, files), rounds, &container)?;
    rows.extend(pull(world, (&source, files), rounds, &container)?);
    Ok(rows)
}

/// Targets: as fast as a plain pipe of tar for many files, far
/// faster than what starts a program for each for few.
fn push(
    world: &World,
    (source, files): (&Path, usize),
    rounds: usize,
    container: &Result<Container, String>,
) -> Result<Vec<Row>> {
    let archive = packed(source)?;
    let ours = |number| {
        let (made, name) = world.remote("ours", number);
        making(&made, || world.push(source, &name))
    };
    let over_socket: Round<'_> = Box::new(|number| {
        let (made, name) = world.remote("socket", number);
        let target = format!("/v1/sync/push?path={name}");
        making(&made, || {
            let answer = world.agent.client.send("POST", &target, &archive)?;
            ensure!(answer.status() == 200, "{}", answer.text());
            Ok(())
        })
    });
    let floor =
        Contender::new(Role::Floor, "the same archive, made before, over the socket", over_socket);
    let mut others = vec![
        if files > FEW { floor } else { floor.within(5.0) },
        tar(world, source, files),
        by_rsync(world, source),
        by_docker(container, files, |container, number| {
            let made = format!("/tmp/in{number}");
            let to = format!("{}:{made}", container.id());
            let time = timed(|| containers::copy(&format!("{}/.", text(source)?), &to))?;
            containers::remove(container, &made)?;
            Ok(time)
        }),
    ];
    if files <= FEW {
        others.push(one_by_one(world, files));
    }
    Ok(contest(&format!("agent: push {files} files of 4 KiB"), rounds, ours, others))
}

fn pull(
    world: &World,
    (source, files): (&Path, usize),
    rounds: usize,
    container: &Result<Container, String>,
) -> Result<Vec<Row>> {
    let (_, name) = world.remote("source", files);
    world.push(source, &name)?;
    if let Ok(container) = container {
        containers::copy(
            &format!("{}/.", text(source)?),
            &format!("{}:/tmp/out{files}", container.id()),
        )?;
    }
    let target = |way: &str, number: usize| world.local.path().join(format!("{way}{number}"));
    let ours = |number| {
        let made = target("ours", number);
        making(&made, || world.pull(&name, &made))
    };
    let over_socket: Round<'_> = Box::new(|_| {
        timed(|| {
            let answer = world.agent.client.get(&format!("/v1/sync/pull?path={name}"))?;
            ensure!(answer.status() == 200, "{}", answer.text());
            Ok(())
        })
    });
    let others = vec![
        Contender::new(Role::Floor, "the archive alone, over the socket", over_socket),
        tar(world, source, files),
        by_rsync(world, source),
        by_docker(container, files, |container, number| {
            let made = target("docker", number);
            let from = format!("{}:/tmp/out{files}/.", container.id());
            making(&made, || containers::copy(&from, text(&made)?))
        }),
    ];
    Ok(contest(&format!("agent: pull {files} files of 4 KiB"), rounds, ours, others))
}

fn tar<'a>(world: &'a World, source: &'a Path, files: usize) -> Contender<'a> {
    let round = Box::new(move |number| {
        let made = world.local.path().join(format!("tar{number}"));
        making(&made, || tar_pipe(source, &made))
    });
    let tar = Contender::new(Role::Peer, "tar into tar", round);
    if files > FEW { tar.at_most(1.1) } else { tar }
}

fn by_rsync<'a>(world: &'a World, source: &'a Path) -> Contender<'a> {
    let round = rsync_is_there().map(|()| -> Round<'a> {
        Box::new(move |number| {
            let made = world.local.path().join(format!("rsync{number}"));
            making(&made, || rsync(source, &made))
        })
    });
    Contender::perhaps("rsync -a", round)
}

fn by_docker<'a>(
    container: &'a Result<Container, String>,
    files: usize,
    copy: impl Fn(&Container, usize) -> Result<f64> + 'a,
) -> Contender<'a> {
    let round = container
        .as_ref()
        .map_err(String::clone)
        .map(|container| -> Round<'a> { Box::new(move |number| copy(container, number)) });
    Contender::perhaps("docker cp", round).faster(if files > FEW { 3.0 } else { 20.0 })
}

/// An exec for each file, as the predecessor did it.
fn one_by_one(world: &World, files: usize) -> Contender<'_> {
    let round = Box::new(move |number| {
        let (made, name) = world.remote("each", number);
        making(&made, || exec_each_file(world, &name, files))
    });
    Contender::new(Role::Peer, "one exec with base64 a file", round).faster(250.0)
}

fn exec_each_file(world: &World, directory: &str, files: usize) -> Result<()> {
    let content = STANDARD.encode([b'x'; 4096]);
    for number in 0..files {
        let line = format!(
            "mkdir -p {directory} && echo {content} | base64 -d > {directory}/{number}.txt"
        );
        let reply = world.agent.shell(&line)?;
        ensure!(reply["exit_code"] == 0, "{reply}");
    }
    let made = fs::read_dir(world.agent.root().join(directory)).context("nothing was made")?;
    ensure!(made.count() == files, "not all were made");
    Ok(())
}
