//! What the demo prints: each step with its time, and what it all came to.

use std::{
    io::Write,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;

/// The steps shown so far.
#[derive(Debug)]
pub(crate) struct Report {
    started: Instant,
    held: usize,
    not_shown: Vec<String>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), held: 0, not_shown: Vec::new() }
    }

    /// Runs one step; it holds when `step` gives no error.
    pub(crate) fn step<T>(&mut self, title: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let begin = Instant::now();
        let outcome = step();
        let verdict = if outcome.is_ok() { "ok  " } else { "FAIL" };
        line(&format!("{verdict} {:>8}  {title}", milliseconds(begin.elapsed())));
        self.held += usize::from(outcome.is_ok());
        outcome
    }

    /// Adds something worth knowing to the step before.
    pub(crate) fn note(&self, text: &str) {
        line(&format!("{:15}{text}", ""));
    }

    /// Records a step that this machine cannot show; the demo then fails at its end.
    pub(crate) fn not_shown(&mut self, title: &str, why: &str) {
        line(&format!("SKIP           {title}"));
        self.not_shown.push(format!("{title}\n  {why}"));
    }

    /// The last lines, and the exit code that is true.
    pub(crate) fn close(&self, outcome: Result<()>) -> ExitCode {
        if let Err(error) = outcome {
            line(&format!("\nthe demo FAILED: {error:?}"));
            return ExitCode::FAILURE;
        }
        if !self.not_shown.is_empty() {
            line(&format!("\nthe demo FAILED: it could not show\n{}", self.not_shown.join("\n")));
            return ExitCode::FAILURE;
        }
        line(&format!(
            "\nall {} steps hold, in {}",
            self.held,
            milliseconds(self.started.elapsed())
        ));
        ExitCode::SUCCESS
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn line(text: &str) {
    let mut output = std::io::stdout().lock();
    // With nobody left to read, the exit code still tells.
    drop(writeln!(output, "{text}").and_then(|()| output.flush()));
}
