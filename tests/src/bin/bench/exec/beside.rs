//! One exec at a time beside what else starts a program in a sandbox: `docker exec`, and under gVisor
//! `runsc exec`. The clients of both are started anew for each, as people use them.

use anyhow::{Context, Result};
use serde_json::json;
use workspace_tests::{
    agent::{Agent, Setup},
    gvisor::Sandbox,
    tools::Tool,
};

use crate::{
    bounded, containers,
    contest::{Contender, Round, contest, timed},
    row::{Role, Row, Unit},
    server::Server,
};

const ROUNDS: usize = 21;
const MANY_ROUNDS: usize = 201;
const UNIT: Unit = Unit::Milliseconds;

pub(super) fn measure(agent: &Agent) -> Result<Vec<Row>> {
    let mut rows = beside_docker(agent)?;
    rows.extend(isolated(agent)?);
    rows.extend(under_gvisor().unwrap_or_else(|error| {
        let what = "agent under gVisor: exec /bin/true";
        vec![Row::new(what, UNIT, Err(bounded::reason(&error)))]
    }));
    Ok(rows)
}

fn beside_docker(agent: &Agent) -> Result<Vec<Row>> {
    let container = containers::sleeping();
    let docker = container.as_ref().map_err(String::clone).map(|container| -> Round<'_> {
        Box::new(|_| timed(|| containers::exec(container, &["/bin/true"])))
    });
    let docker = Contender::perhaps("docker exec", docker).faster(50.0);
    let what = "agent: exec /bin/true, one after the other";
    Ok(contest(what, ROUNDS, ours(agent)?, vec![docker]))
}

/// The namespace is made at the start, so a command should cost as much as without.
fn isolated(agent: &Agent) -> Result<Vec<Row>> {
    let what = "agent: exec /bin/true without a network (--isolate-net)";
    let isolated = match Setup::new()?.args(&["--isolate-net", "required"]).start() {
        Ok(isolated) => isolated,
        Err(error) => return Ok(vec![Row::new(what, UNIT, Err(bounded::reason(&error)))]),
    };
    let mut without = ours(agent)?;
    let without: Round<'_> = Box::new(&mut without);
    let without = Contender::new(Role::Floor, "with the network", without).at_most(1.1);
    Ok(contest(what, MANY_ROUNDS, ours(&isolated)?, vec![without]))
}

fn under_gvisor() -> Result<Vec<Row>> {
    if let Some(reason) = Tool::Gvisor.missing() {
        let what = "agent under gVisor: exec /bin/true";
        return Ok(vec![Row::new(what, UNIT, Err(reason))]);
    }
    let setup = Setup::new()?;
    let (sandbox, run) = Sandbox::new(&setup.command(), 0, setup.directory())?;
    let agent = setup.start_as(run).context("the agent under gVisor")?;
    let runsc: Round<'_> =
        Box::new(|_| timed(|| bounded::run(&mut sandbox.exec(&["/bin/true"])).map(drop)));
    let runsc = Contender::perhaps("runsc exec", Ok(runsc)).faster(4.0);
    let what = "agent under gVisor: exec /bin/true";
    Ok(contest(what, ROUNDS, ours(&agent)?, vec![runsc]))
}

/// One exec, on a connection that is kept.
fn ours(agent: &Agent) -> Result<impl FnMut(usize) -> Result<f64> + use<>> {
    let body = json!({ "argv": ["/bin/true"], "cwd": agent.root() }).to_string();
    let mut exec = super::client(&Server::of_agent(agent), &body)?;
    Ok(move |_| timed(&mut exec))
}
