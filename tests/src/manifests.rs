//! The tests of k8s/ that are written in Python: tests/k8s, one file a subject.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{binaries, peer};

/// The kubectl that `make test-deps` brings, or the machine's own.
pub fn kubectl() -> PathBuf {
    let ours = peer::python().with_file_name("kubectl");
    if ours.is_file() { ours } else { PathBuf::from("kubectl") }
}

/// The scanner of `make test-deps`.
pub fn checkov() -> PathBuf {
    binaries::repository().join("target/scanners-venv/bin/checkov")
}

/// Where the definitions of the custom resources are: named by `WORKSPACE_TESTS_CRDS`, or beside the
/// repository; `None` where neither is.
pub fn definitions() -> Option<PathBuf> {
    let beside = || binaries::repository().join("../shared/crds");
    let directory = std::env::var_os("WORKSPACE_TESTS_CRDS").map_or_else(beside, PathBuf::from);
    directory.is_dir().then_some(directory)
}

/// Runs one file of tests/k8s, and says how many tests it had: past the test harness, which shows
/// the output of failures only.
///
/// # Errors
/// When a test in it fails, or there is none.
pub fn pytest(file: &str) -> Result<()> {
    let directory = binaries::repository().join("tests/k8s");
    let output = Command::new(peer::python())
        .args(["-m", "pytest", "--quiet", "--color=no", "-p", "no:cacheprovider", file])
        .current_dir(&directory)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("WORKSPACE_BIN_DIR", binaries::directory())
        .env("WORKSPACE_TESTS_KUBECTL", kubectl())
        .env("WORKSPACE_TESTS_CHECKOV", checkov())
        .stdin(Stdio::null())
        .output()
        .context("cannot run pytest")?;
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    let closing = said.lines().last().unwrap_or_default();
    writeln!(std::io::stderr(), "tests/k8s/{file}: {closing}")?;
    ensure!(output.status.success(), "tests/k8s/{file}: {closing}");
    Ok(())
}
