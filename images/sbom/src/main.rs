//! Writes the software bill of materials of one static binary as `CycloneDX` JSON:
//!
//! ```text
//! CC=cc workspace-sbom PACKAGE TRIPLE BINARY > BINARY.cdx.json
//! ```
//!
//! It lists what is in the binary and nothing else: the crates that cargo links for that target
//! (neither procedural macros nor what only builds and tests use), Rust's standard library, and the
//! C archives of a static glibc. It asks the tools of the build itself and needs no network.
//! The same sources and tools give the same document: no random serial number, and a time only from
//! `SOURCE_DATE_EPOCH`.

mod document;
mod lock;
mod native;
mod tree;

use std::{
    env, fs,
    io::{self, Write},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use document::{Document, Subject};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [package, triple, binary] = arguments.as_slice() else {
        bail!("usage: workspace-sbom PACKAGE TRIPLE BINARY");
    };
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());

    let printed = run(&cargo, &tree::arguments(package, triple))?;
    let lock = fs::read_to_string("Cargo.lock").context("cannot read Cargo.lock")?;
    let document = Document {
        subject: Subject { sha256: sha256(binary)?, triple },
        graph: tree::parse(&printed)?,
        checksums: lock::checksums(&lock),
        native: native::components(triple, &compiler)?,
        written: env::var("SOURCE_DATE_EPOCH").ok().map(|epoch| utc(&epoch)).transpose()?,
    };
    let mut text = serde_json::to_string_pretty(&document.to_json())?;
    text.push('\n');
    io::stdout().write_all(text.as_bytes()).context("cannot write the document")
}

/// The SHA-256 of a file, in hexadecimal.
fn sha256(path: &str) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {path}"))?;
    Ok(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What a command that has to succeed printed.
fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?} failed: {said}");
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

/// Seconds since 1970 as RFC 3339 in UTC. `date` knows the calendar; this tool need not.
fn utc(epoch: &str) -> Result<String> {
    ensure!(epoch.parse::<u64>().is_ok(), "SOURCE_DATE_EPOCH {epoch:?} is no number of seconds");
    run("date", &["--utc", "--date", &format!("@{epoch}"), "+%Y-%m-%dT%H:%M:%SZ"])
}
