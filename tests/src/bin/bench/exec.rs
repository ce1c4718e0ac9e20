//! `/bin/true` from 1, 8 and 32 clients on kept connections: through the agent, through the same in
//! Python, and started by the driver itself.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use workspace_tests::{agent::Agent, http::Connection};

use crate::{
    floor,
    load::{Load, closed_loop},
    pace, process, progress,
    row::{Measured, Role, Row, Target, Unit},
    series::Series,
    server::{PYTHON, Python, Server},
};

const CLIENTS: [usize; 3] = [1, 8, 32];
const ROUNDS: usize = 5;
/// How long each of the three runs in each round.
const TIME: Duration = Duration::from_secs(2);
const TRUE: &[&str] = &["/bin/true"];

/// One run against one server.
#[derive(Debug)]
struct Sample {
    load: Load,
    /// Time that the server itself spent on the processor, in microseconds an exec.
    cpu: f64,
}

/// All runs with one number of clients.
#[derive(Debug)]
struct Rounds {
    clients: usize,
    ours: Vec<Sample>,
    bare: Vec<Load>,
    python: Result<Vec<Sample>, String>,
}

mod beside;

pub(crate) fn measure() -> Result<Vec<Row>> {
    let (agent, python) = (Agent::start()?, Python::start()?);
    let mut rows = Vec::new();
    for clients in CLIENTS {
        progress::say(format!("  exec, {clients} clients"));
        rows.extend(rounds(&agent, &python, clients)?.rows());
    }
    rows.extend(beside::measure(&agent)?);
    Ok(rows)
}

fn rounds(agent: &Agent, python: &Python, clients: usize) -> Result<Rounds> {
    let (root, ours) = (agent.root(), Server::of_agent(agent));
    let body = json!({ "argv": TRUE, "cwd": root, "env": { "RUN": "1" } }).to_string();
    let bare = || Ok(|| floor::run(TRUE, &root));
    let mut rounds = Rounds {
        clients,
        ours: Vec::new(),
        bare: Vec::new(),
        python: python.server().map(|_| Vec::new()),
    };
    for _ in 0..pace::rounds(ROUNDS) {
        rounds.ours.push(through(&ours, &body, clients)?);
        rounds.bare.push(closed_loop(clients, pace::time(TIME), bare)?);
        if let (Ok(server), Ok(samples)) = (python.server(), &mut rounds.python) {
            samples.push(through(server, &body, clients)?);
        }
    }
    Ok(rounds)
}

/// One run: every client sends its next exec on its kept connection when the last is answered.
fn through(server: &Server, body: &str, clients: usize) -> Result<Sample> {
    let before = process::cpu(server.pid)?;
    let load = closed_loop(clients, pace::time(TIME), || client(server, body))?;
    let spent = process::cpu(server.pid)?.saturating_sub(before);
    let cpu = spent.as_secs_f64() * 1e6 / load.count();
    Ok(Sample { load, cpu })
}

pub(crate) fn client(
    server: &Server,
    body: &str,
) -> Result<impl FnMut() -> Result<()> + Send + use<>> {
    let request = server.exec_request(body.as_bytes(), "application/json");
    let mut connection = Connection::open(&server.endpoint)?;
    Ok(move || {
        connection.send(&request)?;
        let reply = connection.read_response("POST")?;
        let ended = reply.status() == 200 && reply.json()?["exit_code"] == 0;
        ensure!(ended, "{} {}", reply.status(), reply.text());
        Ok(())
    })
}

impl Rounds {
    fn rows(&self) -> Vec<Row> {
        let p50 = |load: &Load| load.percentile(50);
        let p99 = |load: &Load| load.percentile(99);
        let mut rows = [
            self.against_both("p50", Unit::Milliseconds, p50),
            self.against_both("p99", Unit::Milliseconds, p99),
            self.against_both("execs/s", Unit::PerSecond, Load::rate),
        ];
        // The latency of one client and the throughput of many are what there are targets for.
        if self.clients == 1 {
            rows[0][0] = rows[0][0].clone().target(Target::RatioAtMost(1.25));
            rows[0][1] = rows[0][1].clone().target(Target::RatioAtMost(0.1));
        } else {
            rows[2][0] = rows[2][0].clone().target(Target::RatioAtLeast(0.85));
        }
        rows.into_iter().flatten().chain([self.cpu()]).collect()
    }

    fn what(&self, figure: &str) -> String {
        let plural = if self.clients == 1 { "" } else { "s" };
        format!("agent: exec /bin/true, {} client{plural}, {figure}", self.clients)
    }

    fn against_both(&self, figure: &str, unit: Unit, of: impl Fn(&Load) -> f64) -> [Row; 2] {
        let series = |samples: &[Sample]| samples.iter().map(|sample| of(&sample.load)).collect();
        let ours: Series = series(&self.ours);
        let bare = self.bare.iter().map(&of).collect();
        let python = self.python.as_ref().map(|samples| series(samples)).map_err(String::clone);
        let row = Row::new(self.what(figure), unit, Ok(ours));
        [
            row.clone().beside(Role::Floor, floor::NAME, Ok(bare)),
            row.beside(Role::Peer, PYTHON, python),
        ]
    }

    fn cpu(&self) -> Row {
        let series = |samples: &Vec<Sample>| samples.iter().map(|sample| sample.cpu).collect();
        let python: Measured = self.python.as_ref().map(series).map_err(String::clone);
        let what = self.what("processor time of the server itself");
        Row::new(what, Unit::Microseconds, Ok(series(&self.ours))).beside(
            Role::Peer,
            PYTHON,
            python,
        )
    }
}
