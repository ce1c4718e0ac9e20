//! From the start of each program to its first answer, asked for without a pause; and its memory
//! when it has answered.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use workspace_tests::{
    agent,
    http::{Client, Endpoint},
    process::free_address,
    proxy,
};

use crate::{
    pace,
    process::resident_kib,
    row::{Row, Target, Unit},
    series::{Series, milliseconds},
};

const STARTS: usize = 21;

/// One start: milliseconds, and MiB.
type Start = (f64, f64);

pub(crate) fn measure() -> Result<Vec<Row>> {
    let (mut agents, mut proxies) = (Vec::new(), Vec::new());
    for _ in 0..pace::rounds(STARTS) {
        agents.push(start_agent()?);
        proxies.push(start_proxy()?);
    }
    Ok([rows("agent", &agents, 4.0), rows("proxy", &proxies, 6.0)].concat())
}

fn rows(program: &str, starts: &[Start], memory_target: f64) -> Vec<Row> {
    let time: Series = starts.iter().map(|(time, _memory)| *time).collect();
    let memory: Series = starts.iter().map(|(_time, memory)| *memory).collect();
    let answer = format!("{program}: start to first answer");
    let idle = format!("{program}: idle memory (RSS)");
    vec![
        Row::new(answer, Unit::Milliseconds, Ok(time)).target(Target::AtMost(5.0)),
        Row::new(idle, Unit::MebiBytes, Ok(memory)).target(Target::AtMost(memory_target)),
    ]
}

fn start_agent() -> Result<Start> {
    let setup = agent::Setup::new()?;
    let socket = Endpoint::Unix(setup.directory().join("agent.sock"));
    first_answer(setup.command(), &socket, "/health")
}

fn start_proxy() -> Result<Start> {
    let setup = proxy::Setup::new()?;
    let (tcp, admin) = (free_address()?, free_address()?);
    first_answer(setup.command(tcp, admin)?, &Endpoint::Tcp(admin), "/healthz")
}

fn first_answer(mut command: Command, at: &Endpoint, path: &str) -> Result<Start> {
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let client = Client::new(at.clone());
    let answered = loop {
        if let Ok(answer) = client.get(path) {
            break answer.status();
        }
        ensure!(begun.elapsed() < Duration::from_secs(10), "{at} did not answer");
    };
    let time = begun.elapsed();
    ensure!(answered == 200, "{at} answered {answered}");
    let memory = resident_kib(child.id())? / 1024.0;
    child.kill()?;
    child.wait()?;
    Ok((milliseconds(time), memory))
}
