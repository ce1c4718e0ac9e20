//! What commands in the table cost: the agent's memory with idle ones, and an exec beside them.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use workspace_tests::agent::{self, Agent};

use crate::{
    descriptors, exec,
    load::closed_loop,
    pace,
    process::resident_kib,
    progress,
    row::{Role, Row, Unit},
    series::Series,
    server::Server,
};

const ROUNDS: usize = 3;
const FEW: usize = 10;
const MANY: usize = 1000;
/// Or what the limit on descriptors permits: each takes two of the agent.
const MOST: usize = 10_000;
/// Enough for all of them.
const LIMIT: &str = "10240";
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
    let rounds = (0..pace::rounds(ROUNDS)).map(|_| round()).collect::<Result<Vec<_>>>()?;
    let mut rows = of_rounds(&rounds);
    if !pace::is_quick() {
        rows.extend(most()?);
    }
    Ok(rows)
}

fn of_rounds(rounds: &[Round]) -> Vec<Row> {
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
    vec![
        resident("10", 1),
        resident("1000", 2),
        Row::new("agent: memory of one idle process", Unit::KibiBytes, Ok(each)),
        Row::new(what, Unit::Milliseconds, Ok(crowded)).beside(
            Role::Floor,
            "none in the table",
            Ok(alone),
        ),
    ]
}

/// The same once, with as many as there is room for.
fn most() -> Result<Vec<Row>> {
    let most = descriptors::room_for_pairs(MOST);
    progress::say(format!("  {most} idle processes"));
    let agent = agent::Setup::new()?.args(&["--max-processes", LIMIT]).start()?;
    let mut crowd = Crowd::default();
    let (none, alone) = (resident_kib(agent.daemon.pid())?, exec_beside(&agent)?);
    crowd.grow(&agent, most)?;
    let (many, crowded) = (resident_kib(agent.daemon.pid())?, exec_beside(&agent)?);
    let single = |value: f64| Ok(Series::single(value));
    let memory = format!("agent: memory (RSS) with {most} idle processes");
    let memory = Row::new(memory, Unit::MebiBytes, single(many / 1024.0));
    let exec = format!("agent: exec /bin/true, 1 client, p50, {most} idle processes");
    let exec = Row::new(exec, Unit::Milliseconds, single(crowded));
    Ok(vec![
        memory.beside(Role::Floor, "none in the table", single(none / 1024.0)),
        exec.beside(Role::Floor, "none in the table", single(alone)),
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
    Ok(closed_loop(1, pace::time(TIME), || exec::client(&server, &body))?.percentile(50))
}
