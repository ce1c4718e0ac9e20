//! What a caller may restrict a command to, and what came of each wish. Pure; [`super::launcher`]
//! carries it out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Limits of one command; absent ones are the agent's own. Names as in the API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Descriptors that may be open (setrlimit(2), `RLIMIT_NOFILE`).
    pub nofile: Option<u64>,
    /// Processes of the command's user, all commands together (`RLIMIT_NPROC`; root is exempt).
    pub nproc: Option<u64>,
    /// Seconds of processor time of each process (`RLIMIT_CPU`).
    pub cpu_seconds: Option<u64>,
    /// Bytes of memory: of the whole tree by cgroup, otherwise of each process's address space
    /// (`RLIMIT_AS`).
    pub memory_bytes: Option<u64>,
    /// Bytes of the largest file that may be written (`RLIMIT_FSIZE`).
    pub file_size_bytes: Option<u64>,
    /// Bytes of a core file (`RLIMIT_CORE`); none are written otherwise.
    pub core_bytes: Option<u64>,
    /// Processes of the whole tree (cgroup, `pids.max`).
    pub pids: Option<u64>,
}

impl Limits {
    /// Whether a cgroup of the command's own is needed to hold them.
    pub fn want_cgroup(&self) -> bool {
        self.memory_bytes.is_some() || self.pids.is_some()
    }
}

/// Everything about the start of a command that posix_spawn(3) cannot do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Limits.
    pub limits: Limits,
    /// Niceness, -20 to 19 (nice(2)).
    pub nice: Option<i32>,
    /// How readily the kernel ends it when memory runs out, -1000 to 1000 (proc(5)).
    pub oom_score_adj: Option<i32>,
    /// File mode bits that new files do not get (umask(2)), if not the agent's.
    pub umask: Option<u32>,
}

impl Conditions {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What came of a wish, in words for the caller: `applied`, perhaps how, or `not applied` and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Verdict(String);

impl Verdict {
    /// It holds.
    pub fn applied() -> Self {
        Self("applied".to_owned())
    }

    /// It holds in another way than the name says.
    pub fn applied_as(how: &str) -> Self {
        Self(format!("applied as {how}"))
    }

    /// It does not hold.
    pub fn not_applied(why: impl std::fmt::Display) -> Self {
        Self(format!("not applied: {why}"))
    }
}

/// What came of all wishes, by their names.
pub type Verdicts = BTreeMap<String, Verdict>;
