//! The seccomp filter of commands (seccomp(2)): what only somebody who wants out of a sandbox asks
//! the kernel for is refused. Filters are inherited and cannot be taken off again, so the agent
//! installs this one on itself while it has one thread: every command has it, at no cost per command.
//!
//! It comes second: the namespace, the capabilities and the container's own profile hold without it.

mod program;
mod rules;

use std::{fmt, io};

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Wanted {
    /// Do not start without the filter.
    Required,
    /// Install it where the kernel allows; otherwise go on and say so.
    Auto,
    /// Leave commands as the container's own profile has them.
    Off,
}

/// Whether commands are under the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seccomp {
    /// They are.
    Active,
    /// It was wanted, and the kernel has no such thing or refuses it.
    Unavailable,
    /// It was not wanted.
    Off,
}

impl Seccomp {
    /// The word for it in the API and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Unavailable => "unavailable",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for Seccomp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// There is none for this kind of machine.
    #[error("there is no seccomp filter for {arch}: use --seccomp auto or off", arch = std::env::consts::ARCH)]
    UnknownMachine,
    /// The rules are at fault, not the machine.
    #[error("cannot build the seccomp filter: {0}")]
    Build(#[source] seccompiler::BackendError),
    /// The kernel refuses it.
    #[error(
        "cannot install the seccomp filter: {0}; where the kernel has none, use --seccomp auto or off"
    )]
    Install(#[source] io::Error),
}

/// Puts this process and everything that it will start under the filter. Call it with one thread,
/// after the namespaces are made: the filter refuses to make any.
///
/// # Errors
/// When the filter is required and cannot be had.
pub fn enter(wanted: Wanted) -> Result<Seccomp, SeccompError> {
    if wanted == Wanted::Off {
        return Ok(Seccomp::Off);
    }
    match install() {
        Ok(()) => Ok(Seccomp::Active),
        Err(error) if wanted == Wanted::Auto => {
            tracing::warn!(%error, "commands run without the seccomp filter");
            Ok(Seccomp::Unavailable)
        }
        Err(error) => Err(error),
    }
}

fn install() -> Result<(), SeccompError> {
    let program = program::build()?;
    seccompiler::apply_filter(&program).map_err(|error| SeccompError::Install(io_error(error)))
}

fn io_error(error: seccompiler::Error) -> io::Error {
    match error {
        seccompiler::Error::Prctl(source) | seccompiler::Error::Seccomp(source) => source,
        other => io::Error::other(other),
    }
}
