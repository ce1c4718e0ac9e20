//! The parts in the proof of isolation that are no product of ours: code that wants out, what it
//! wants to reach, and another container of its pod. Static, so that it runs in any container.
//!
//!   workspace-hostile attack       tries every way out, one JSON line each
//!   workspace-hostile world        the network outside: services on every address of its namespace
//!   workspace-hostile neighbour    a container of the pod with a port, an abstract socket, a secret

mod files;
mod network;
mod privilege;
mod world;

use std::process::ExitCode;

use serde_json::json;

/// What came of an attempt: what was reached, or why nothing was.
type Attempt = Result<String, String>;
/// Attempts of one kind, by the names of their vectors.
type Attempts = &'static [(&'static str, fn() -> Attempt)];

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("attack") => attack(),
        Some("world") => world::serve(),
        Some("neighbour") => world::neighbour(),
        _ => {
            eprintln!("usage: workspace-hostile attack|world|neighbour");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// The order matters: what would change this process for the later attempts comes last.
fn attack() {
    for attempts in [network::ATTEMPTS, files::ATTEMPTS, privilege::ATTEMPTS] {
        for (vector, attempt) in attempts {
            let (outcome, detail) = match attempt() {
                Ok(found) => ("reached", found),
                Err(reason) => ("blocked", reason),
            };
            println!("{}", json!({ "vector": vector, "outcome": outcome, "detail": detail }));
        }
    }
}

/// The error as the kernel names it, for people who compare runs.
fn reason(error: &std::io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |code| nix::errno::Errno::from_raw(code).to_string())
}
