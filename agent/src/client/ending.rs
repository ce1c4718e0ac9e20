//! Exit codes, as a shell gives them: what a script sees of a command that ran elsewhere.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde::Deserialize;

use super::failure::Failure;
use crate::exec::signal;

/// A shell's exit code for a command that is not there.
const NOT_FOUND: u8 = 127;
/// A shell's exit code for a command that may not or cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// The exit code of timeout(1) for a command that took too long.
const TIMED_OUT: u8 = 124;
/// A shell adds the number of the signal to it.
const SIGNALLED: u8 = 128;

/// How a command ended, as far as it matters here.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Exit {
    exit_code: Option<u8>,
    signal: Option<String>,
    #[serde(default)]
    timed_out: bool,
}

impl Exit {
    /// The exit code that tells it.
    pub(super) fn code(&self) -> ExitCode {
        ExitCode::from(self.number())
    }

    fn number(&self) -> u8 {
        if self.timed_out {
            return TIMED_OUT;
        }
        let signal = self.signal.as_deref().and_then(signal::number);
        self.exit_code.or_else(|| signal.map(by_signal)).unwrap_or(1)
    }
}

/// The exit code for an end by the signal of this number.
pub(super) fn by_signal(number: u8) -> u8 {
    SIGNALLED.saturating_add(number)
}

/// A command that did not start ends as a shell would end it; other refusals are errors.
///
/// # Errors
/// When the refusal is about something else than the command.
pub(super) fn not_started(refused: Failure) -> Result<ExitCode, Failure> {
    let code = match &refused {
        Failure::Refused { code, .. } => match code.as_str() {
            "command_not_found" => NOT_FOUND,
            "permission_denied" | "exec_format_error" | "bad_interpreter" => NOT_EXECUTABLE,
            _ => return Err(refused),
        },
        _ => return Err(refused),
    };
    writeln!(io::stderr(), "workspace-agent: {refused}")?;
    Ok(ExitCode::from(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_have_the_exit_codes_of_a_shell() {
        for (json, expected) in [
            (r#"{"exit_code":3,"signal":null,"timed_out":false}"#, 3),
            (r#"{"exit_code":null,"signal":"SIGKILL"}"#, 137),
            (r#"{"exit_code":null,"signal":"35"}"#, 163),
            (r#"{"exit_code":null,"signal":"SIGTERM","timed_out":true}"#, 124),
            (r#"{"exit_code":null,"signal":null}"#, 1),
        ] {
            let exit: Exit = serde_json::from_str(json).unwrap();
            assert_eq!(exit.number(), expected, "{json}");
        }
    }
}
