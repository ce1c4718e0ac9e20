//! Logs of the process itself: structured lines on standard error. Audit lines are not logs; the
//! proxy writes them elsewhere.

use std::str::FromStr;

use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One readable line an event.
    Text,
    /// One JSON object a line.
    Json,
}

/// Targets that may never go below `info`: at `trace` they print requests with their headers.
const CAPPED_TARGETS: [&str; 5] = ["aws_sigv4", "hyper", "hyper_util", "h2", "rustls"];

/// Starts logging at `level` (`error`, `warn`, `info`, `debug` or `trace`), once per process.
///
/// # Errors
/// When `level` is none of these words, or logging has been started already.
pub fn init(format: LogFormat, level: &str) -> Result<(), String> {
    let level = LevelFilter::from_str(level).map_err(|_ignored| {
        format!("'{level}' is not a log level: write error, warn, info, debug or trace")
    })?;
    let capped = CAPPED_TARGETS.map(|target| (target, level.min(LevelFilter::INFO)));
    let filter = Targets::new().with_default(level).with_targets(capped);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let started = match format {
        LogFormat::Text => registry.with(lines.with_ansi(false)).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    started.map_err(|error| error.to_string())
}
