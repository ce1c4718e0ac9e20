//! What commands in the table cost: the agent's memory with idle ones, and an exec beside them.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use workspace_tests::agent::Agent;

use crate::{
    exec,
    load::closed_loop,
    process::resident_kib,
    row::{Role, Row, Unit},
    series::Series,
    server::Server,
};

const ROUNDS: usize = 3;
const FEW: usize = 10;
const MANY: usize = 1000;
const TIME: Duration = Duration::from_secs(2);

/// Idle commands, which end with this value: their agent is killed, and would leave them behind.
#[derive(Debug, Default)]
struct Crowd(Vec<Pid>);

impl Crowd {
    fn grow(&mut self, agent: &Agent, to: usize) -> Result<()> {
        for _ in self.0.len()..to {
            let started = agent.client.json(
                "POST",
                "/v1/processes",
                &json!({ "argv": ["sleep", "3600"] }),
            )?;
            let pid = started["pid"].as_i64().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
            self.0.push(pid.with_context(|| format!("no pid in {started}"))?);
        }
        Ok(())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for pid in &self.0 {
            // One that has ended already is what is wanted.
            let _ = kill_process(*pid, Signal::KILL);
        }
    }
}

/// What one agent came to.
#[derive(Debug)]
struct Round {
    /// KiB with no, few and many idle commands.
    resident: [f64; 3],
    /// Milliseconds (median) of an exec beside many idle commands, and beside none.
    exec: [f64; 2],
}

pub(crate) fn measure() -> Result<Vec<Row>> {
    let rounds = (0..ROUNDS).map(|_| round()).collect::<Result<Vec<_>>>()?;
    let series = |of: &dyn Fn(&Round) -> f64| rounds.iter().map(of).collect::<Series>();
    let resident = |what: &str, index: usize| {
        let kib = series(&|round: &Round| round.resident[index] / 1024.0);
        let none = series(&|round: &Round| round.resident[0] / 1024.0);
        let row = Row::new(
            format!("agent: memory (RSS) with {what} idle processes"),
            Unit::MebiBytes,
            Ok(kib),
        );
        row.beside(Role::Floor, "none in the table", Ok(none))
    };
    let each = series(&|round| (round.resident[2] - round.resident[0]) / MANY as f64);
    let crowded = series(&|round| round.exec[0]);
    let alone = series(&|round| round.exec[1]);
    let what = format!("agent: exec /bin/true, 1 client, p50, {MANY} idle processes");
    Ok(vec![
        resident("10", 1),
        resident("1000", 2),
        Row::new("agent: memory of one idle process", Unit::KibiBytes, Ok(each)),
        Row::new(what, Unit::Milliseconds, Ok(crowded)).beside(
            Role::Floor,
            "none in the table",
            Ok(alone),
        ),
    ])
}

fn round() -> Result<Round> {
    let (crowded, alone) = (Agent::start()?, Agent::start()?);
    let mut crowd = Crowd::default();
    let mut resident = [0.0; 3];
    for (kib, size) in resident.iter_mut().zip([0, FEW, MANY]) {
        crowd.grow(&crowded, size)?;
        *kib = resident_kib(crowded.daemon.pid())?;
    }
    let exec = [exec_beside(&crowded)?, exec_beside(&alone)?];
    Ok(Round { resident, exec })
}

fn exec_beside(agent: &Agent) -> Result<f64> {
    let body = json!({ "argv": ["/bin/true"], "cwd": agent.root() }).to_string();
    let server = Server::of_agent(agent);
    Ok(closed_loop(1, TIME, || exec::client(&server, &body))?.percentile(50))
}
