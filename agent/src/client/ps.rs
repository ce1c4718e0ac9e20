//! `ps`: the commands of the workspace.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use bytes::Bytes;
use clap::Args;
use http::Request;
use serde::Deserialize;
use workspace_common::{
    body::{self, collect_limited},
    client::Client,
};

use super::failure::{Failure, expect_success};
use crate::files::path::printable;

/// Longest list that is read: some ten thousand commands.
const MAX_LIST: usize = 16 * 1024 * 1024;

/// List the commands that run or have ended lately
#[derive(Debug, Clone, Args)]
pub struct PsArgs {
    /// Print the agent's answer as it is
    #[arg(long)]
    pub json: bool,
}

#[derive(Deserialize)]
struct List {
    processes: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    pid: i32,
    argv0: String,
    state: String,
    started_at: String,
    exit_code: Option<i32>,
    signal: Option<String>,
    #[serde(default)]
    attached: u32,
    #[serde(default)]
    tty: bool,
}

/// Runs the subcommand and prints its result.
///
/// # Errors
/// When the agent cannot be reached or refuses.
pub async fn run(client: &Client, args: &PsArgs) -> Result<ExitCode, Failure> {
    let mut request = Request::new(body::empty());
    *request.uri_mut() = http::Uri::from_static("/v1/processes");
    let answer = expect_success(client.request_apart(request).await?).await?;
    let content = collect_limited(answer.into_body(), MAX_LIST).await?;
    print_list(&content, args.json, &mut io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

fn print_list(content: &Bytes, json: bool, output: &mut impl Write) -> Result<(), Failure> {
    if json {
        output.write_all(content)?;
        return Ok(());
    }
    let list: List = serde_json::from_slice(content)?;
    for entry in &list.processes {
        let Entry { id, pid, argv0, state, started_at, attached, .. } = entry;
        let end = entry.exit_code.map(|code| code.to_string()).or_else(|| entry.signal.clone());
        let tty = if entry.tty { "tty" } else { "-" };
        // Nothing that a terminal would obey.
        let [started_at, state, end, id, argv0] =
            [started_at, state, &end.unwrap_or_else(|| "-".to_owned()), id, argv0]
                .map(|text| printable(text.as_bytes()));
        writeln!(
            output,
            "{started_at} {state:<7} {end:<7} {pid:>7} {attached:>2} {tty:<3} {id} {argv0}"
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_aligned_and_harmless_to_the_terminal() {
        let content = serde_json::json!({"processes": [
            {"id": "a", "pid": 7, "argv0": "sh\u{1b}[2J", "state": "running", "tty": true,
             "attached": 1, "started_at": "2024-01-02T03:04:05.006Z", "stdout_bytes": 0},
            {"id": "b", "pid": 12345, "argv0": "make", "state": "ended", "exit_code": null,
             "signal": "SIGKILL", "started_at": "2024-01-02T03:04:05.006Z"},
        ]});
        let mut output = Vec::new();
        print_list(&content.to_string().into(), false, &mut output).unwrap();
        assert_eq!(
            String::from_utf8(output).unwrap(),
            "2024-01-02T03:04:05.006Z running -             7  1 tty a sh\\u{1b}[2J\n\
             2024-01-02T03:04:05.006Z ended   SIGKILL   12345  0 -   b make\n"
        );
    }
}
