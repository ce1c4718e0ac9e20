//! Ten small files through `push`, the start of the client included, against one exec with base64
//! for each file, as the predecessor did it.

use std::{fs, time::Instant};

use anyhow::{Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use workspace_tests::agent::Agent;

use crate::{
    row::{Role, Row, Target, Unit},
    series::{Series, milliseconds},
};

const ROUNDS: usize = 21;
const FILES: usize = 10;
const FILE_BYTES: usize = 4096;

pub(crate) fn measure() -> Result<Vec<Row>> {
    let agent = Agent::start()?;
    let local = tempfile::tempdir()?;
    for number in 0..FILES {
        fs::write(local.path().join(format!("{number}.txt")), [b'x'; FILE_BYTES])?;
    }
    let source = local.path().to_string_lossy();
    let (mut ours, mut one_by_one) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(timed(|| agent.run_cli("push", &[&source, "pushed"]).map(drop))?);
        one_by_one.push(timed(|| exec_each_file(&agent))?);
    }
    let what = format!("agent: push {FILES} files of {FILE_BYTES} bytes, with the CLI");
    let ours: Series = ours.into_iter().collect();
    let row = Row::new(what, Unit::Milliseconds, Ok(ours)).target(Target::AtMost(5.0));
    let name = "one exec with base64 a file";
    Ok(vec![row.beside(Role::Peer, name, Ok(one_by_one.into_iter().collect()))])
}

/// Milliseconds.
fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    work()?;
    Ok(milliseconds(begun.elapsed()))
}

fn exec_each_file(agent: &Agent) -> Result<()> {
    let content = STANDARD.encode([b'x'; FILE_BYTES]);
    for number in 0..FILES {
        let line = format!("mkdir -p each && echo {content} | base64 -d > each/{number}.txt");
        let reply = agent.shell(&line)?;
        ensure!(reply["exit_code"] == 0, "{reply}");
    }
    Ok(())
}
