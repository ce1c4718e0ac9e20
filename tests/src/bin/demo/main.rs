//! The main job, shown on real processes: a command runs in a workspace, its traffic leaves only
//! through the proxy, and the credential is added on the way.
//!
//! `workspace-demo` drives the two binaries as an orchestrator would and checks every step. The
//! same binary is what runs inside the workspace (`workspace-demo inside …`), in the place of
//! untrusted code, so that the demo needs no other program than a Rust toolchain builds.

mod inside;
mod report;
mod steps;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["inside", command @ ..] => inside::run(command),
        [] => demo(),
        _ => Err(anyhow::anyhow!("usage: workspace-demo (no arguments)")),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

fn demo() -> Result<ExitCode> {
    let mut report = report::Report::new();
    let shown = steps::run(&mut report);
    Ok(report.close(shown))
}
