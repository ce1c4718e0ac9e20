//! The body of a request as its caller writes it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::supervise::limits::Limits;

/// The body of both calls that start a command.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wire {
    pub(super) id: Option<String>,
    pub(super) argv: Option<Vec<String>>,
    pub(super) shell: Option<String>,
    pub(super) cwd: Option<String>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    pub(super) stdin: Option<String>,
    pub(super) stdin_base64: Option<String>,
    #[serde(default)]
    pub(super) stdin_open: bool,
    pub(super) tty: Option<WireSize>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) kill_grace_ms: Option<u64>,
    pub(super) on_disconnect: Option<WireDisconnect>,
    pub(super) max_output_bytes: Option<usize>,
    #[serde(default)]
    pub(super) backpressure: bool,
    #[serde(default)]
    pub(super) spool: bool,
    pub(super) limits: Option<Limits>,
    pub(super) nice: Option<i32>,
    pub(super) oom_score_adj: Option<i32>,
    pub(super) umask: Option<String>,
}

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireSize {
    pub(super) rows: u16,
    pub(super) cols: u16,
}

/// What becomes of the command when its last client goes.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WireDisconnect {
    Kill,
    Keep,
}
