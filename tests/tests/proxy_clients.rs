//! Real clients behind the proxy, as data: a test for each line of tests/data/clients.jsonl.

use std::{
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use workspace_tests::{
    clients::{self, Row, Stage},
    namespace, tools,
};

fn main() -> Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    let rows = clients::load()?;
    let trials = if arguments.list {
        rows.into_iter().map(|row| Trial::test(row.test_name(), || Ok(()))).collect()
    } else {
        // The rows share an origin, a proxy and an agent.
        arguments.test_threads = Some(1);
        runnable(rows)?
    };
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

fn runnable(rows: Vec<Row>) -> Result<Vec<Trial>> {
    let missing = |row: &Row| row.needs().into_iter().find_map(tools::Tool::missing);
    if rows.iter().all(|row| missing(row).is_some()) {
        let trial = |row: Row| skipped(row.test_name(), missing(&row).unwrap_or_default());
        return Ok(rows.into_iter().map(trial).collect());
    }
    if let Err(reason) = namespace::enter() {
        return Ok(vec![skipped("proxy_clients".to_owned(), format!("{reason:#}"))]);
    }
    let stage = Arc::new(Mutex::new(Stage::start()?));
    let trial = |row: Row| match missing(&row) {
        Some(reason) => skipped(row.test_name(), reason),
        None => runs(Arc::clone(&stage), row),
    };
    Ok(rows.into_iter().map(trial).collect())
}

fn skipped(name: String, reason: String) -> Trial {
    Trial::test(name.clone(), move || tools::report_skip_of(name, reason).map_err(Failed::from))
}

fn runs(stage: Arc<Mutex<Stage>>, row: Row) -> Trial {
    Trial::test(row.test_name(), move || {
        let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
        stage.run(&row).map_err(|error| Failed::from(format!("{error:#}")))
    })
}
