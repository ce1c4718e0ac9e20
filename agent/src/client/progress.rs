//! What `push` and `pull` show while they run and when they are done.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    files::path::printable,
    sync::archive::{Report, Skipped},
};

/// Everything that could be read arrived, but something could not be read.
pub const EXIT_PARTIAL: u8 = 3;
/// Left-out entries that are named on a terminal; `--json` names more.
const SHOWN_SKIPPED: usize = 20;

/// Which way a transfer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Into the workspace.
    Push,
    /// Out of it.
    Pull,
}

impl Direction {
    fn done(self) -> &'static str {
        match self {
            Self::Push => "pushed",
            Self::Pull => "pulled",
        }
    }
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A line for people.
    Text,
    /// A JSON object for scripts.
    Json,
}

impl Format {
    /// The meaning of a `--json` flag.
    pub fn from_json_flag(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// A bar on standard error, where that is a terminal; otherwise nothing.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    direction: Direction,
    started: Instant,
}

impl Progress {
    /// Starts to count.
    pub fn start(direction: Direction) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) =
            ProgressStyle::with_template("{spinner} {msg}  {bytes}  {bytes_per_sec}  {elapsed}")
        {
            bar.set_style(style);
        }
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Self { bar, direction, started: Instant::now() }
    }

    /// Says how many bytes are to come, so that the bar shows how far it is.
    pub fn expect(&self, bytes: u64) {
        const TEMPLATE: &str =
            "{bar:24} {msg}  {bytes} of {total_bytes}  {bytes_per_sec}  {elapsed}";
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            self.bar.set_style(style);
        }
        self.bar.set_length(bytes);
    }

    /// A handle for the thread that does the work.
    pub fn counter(&self) -> impl FnMut(&Report) + Send + 'static {
        let bar = self.bar.clone();
        let mut files = None;
        move |report| {
            if bar.is_hidden() {
                return;
            }
            bar.set_position(report.bytes);
            if files != Some(report.files) {
                files = Some(report.files);
                bar.set_message(format!("{} files", report.files));
            }
        }
    }

    /// Takes the bar away and prints the result. The exit code says whether everything was moved.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn finish(self, report: &Report, format: Format) -> io::Result<ExitCode> {
        self.bar.finish_and_clear();
        let took = self.started.elapsed();
        match format {
            Format::Json => writeln!(io::stdout(), "{}", serde_json::to_string(report)?)?,
            Format::Text => self.print_text(report, took)?,
        }
        let partial = report.skipped.iter().any(|skipped| skipped.kind.loses_content());
        Ok(if partial { ExitCode::from(EXIT_PARTIAL) } else { ExitCode::SUCCESS })
    }

    fn print_text(&self, report: &Report, took: Duration) -> io::Result<()> {
        let mut errors = io::stderr().lock();
        for Skipped { path, kind } in report.skipped.iter().take(SHOWN_SKIPPED) {
            writeln!(errors, "left out: {} ({})", printable(path.as_bytes()), kind.as_str())?;
        }
        let unnamed = report.skipped_total.saturating_sub(SHOWN_SKIPPED as u64);
        if unnamed > 0 {
            writeln!(errors, "left out: {unnamed} more")?;
        }
        writeln!(
            io::stdout(),
            "{} {} files, {} directories, {} links, {} in {:.1} ms{}",
            self.direction.done(),
            report.files,
            report.directories,
            report.symlinks,
            HumanBytes(report.bytes),
            took.as_secs_f64() * 1000.0,
            besides(report)
        )
    }
}

/// What else there is to say of a transfer.
fn besides(report: &Report) -> String {
    let parts = [
        (report.touched, "with other modes or times"),
        (report.unchanged, "unchanged"),
        (report.removed, "removed"),
    ];
    let parts = parts.into_iter().filter(|(count, _)| *count > 0);
    parts.map(|(count, what)| format!("; {count} {what}")).collect()
}
