//! Somebody at a real terminal (tests/peers/terminal.py).

use std::{
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::peer;

/// What came of a program that was run in a terminal.
#[derive(Debug)]
pub struct Session {
    /// Its exit code; minus the number of the signal that ended it.
    pub exit: i64,
    /// Everything that was shown.
    pub shown: String,
    /// Whether the terminal was what it was in the beginning.
    pub restored: bool,
}

/// Runs `program` in a terminal of this size, and does there what `steps` say, in the words of
/// tests/peers/terminal.py.
///
/// # Errors
/// When something expected is not shown, with what was.
pub fn session(program: &Command, size: (u16, u16), steps: &[Value]) -> Result<Session> {
    let mut terminal = Command::new("python3");
    terminal.arg(peer::script("terminal.py")).args([size.0.to_string(), size.1.to_string()]);
    terminal.arg(program.get_program()).args(program.get_args());
    terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = terminal.spawn()?;
    let mut stdin = child.stdin.take().context("a pipe")?;
    let lines: String = steps.iter().map(|step| format!("{step}\n")).collect();
    stdin.write_all(lines.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let result: Value = serde_json::from_slice(&output.stdout)?;
    Ok(Session {
        exit: result["exit"].as_i64().context("no exit code")?,
        shown: result["shown"].as_str().context("nothing shown")?.to_owned(),
        restored: result["restored"] == true,
    })
}

/// Waits until this is shown.
pub fn expect(text: &str) -> Value {
    json!({ "expect": text })
}

/// Hits these keys.
pub fn keys(text: &str) -> Value {
    json!({ "type": text })
}

/// Changes the size of the terminal.
pub fn resize(rows: u16, cols: u16) -> Value {
    json!({ "resize": [rows, cols] })
}

/// Signals the program, as in `SIGTERM`.
pub fn signal(name: &str) -> Value {
    json!({ "signal": name })
}
