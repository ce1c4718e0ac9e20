//! Every known bypass, as data: a test for each line of tests/data/bad_inputs.jsonl, named after its
//! row, against the real proxy in a network namespace in which all the world is the test.

use std::{
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use workspace_tests::{
    bad_inputs::{self, Bench, Row},
    namespace, tools,
};

fn main() -> Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    let rows = bad_inputs::load()?;
    let trials = if arguments.list {
        listed(rows)
    } else {
        match namespace::enter() {
            Ok(()) => {
                // The rows share a name server, upstreams and proxies.
                arguments.test_threads = Some(1);
                runnable(rows)?
            }
            Err(reason) => vec![skipped(format!("{reason:#}"))],
        }
    };
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

fn listed(rows: Vec<Row>) -> Vec<Trial> {
    rows.into_iter().map(|row| Trial::test(row.test_name(), || Ok(()))).collect()
}

fn skipped(reason: String) -> Trial {
    let name = "proxy_bad_inputs";
    Trial::test(name, move || {
        // The report takes the name of the test from its thread.
        let report = thread::Builder::new().name(name.to_owned());
        let report = report.spawn(move || tools::report_skip(&reason))?;
        report.join().map_err(|_panicked| Failed::from("everything is required here"))
    })
}

fn runnable(rows: Vec<Row>) -> Result<Vec<Trial>> {
    let bench = Arc::new(Mutex::new(Bench::start()?));
    let pending = bad_inputs::pending()?;
    let trial = |row: Row| {
        let (bench, missing) = (Arc::clone(&bench), pending.get(&row.test_name()).cloned());
        Trial::test(row.test_name(), move || run(&bench, &row, missing.as_deref()))
    };
    Ok(rows.into_iter().map(trial).collect())
}

/// A pending row has to fail: one that passes is no longer pending.
fn run(bench: &Mutex<Bench>, row: &Row, missing: Option<&str>) -> Result<(), Failed> {
    let mut bench = bench.lock().unwrap_or_else(PoisonError::into_inner);
    match (bench.run(row), missing) {
        (Ok(()), None) => Ok(()),
        (Err(error), None) => Err(format!("{error:#}").into()),
        (Err(_), Some(_)) => Ok(()),
        (Ok(()), Some(missing)) => {
            Err(format!("passes, and stands in the list of what is pending ({missing})").into())
        }
    }
}
