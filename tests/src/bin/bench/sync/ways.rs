//! The other ways to copy a tree.

use std::{
    fs::File,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::bounded;

/// `tar` into `tar`.
pub(super) fn tar_pipe(source: &Path, target: &Path) -> Result<()> {
    std::fs::create_dir_all(target)?;
    let mut pack = Command::new("tar");
    pack.args(["--create", "--file=-", "--directory"]).arg(source).arg(".").stdout(Stdio::piped());
    let mut pack = pack.spawn()?;
    let mut unpack = Command::new("tar");
    unpack.args(["--extract", "--file=-", "--directory"]).arg(target);
    let unpacked = unpack.stdin(pack.stdout.take().context("no pipe")?).status()?;
    ensure!(unpacked.success() && pack.wait()?.success(), "tar failed");
    Ok(())
}

/// A tree as a tar stream, made beforehand.
pub(super) fn packed(source: &Path) -> Result<Vec<u8>> {
    let mut pack = Command::new("tar");
    pack.args(["--create", "--file=-", "--directory"]).arg(source).arg(".");
    let output = pack.stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "tar failed");
    Ok(output.stdout)
}

/// Whether `rsync` is there; otherwise why it is not measured.
pub(super) fn rsync_is_there() -> Result<(), String> {
    let mut version = Command::new("rsync");
    let found = version.arg("--version").stdout(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    found.then_some(()).ok_or_else(|| "not installed".to_owned())
}

/// `rsync --archive`, both ends on this machine.
pub(super) fn rsync(source: &Path, target: &Path) -> Result<()> {
    let mut from = source.as_os_str().to_owned();
    from.push("/");
    bounded::run(Command::new("rsync").arg("--archive").arg(from).arg(target)).map(drop)
}

/// `cp`, of one file.
pub(super) fn cp(source: &Path, target: &Path) -> Result<()> {
    bounded::run(Command::new("cp").arg(source).arg(target)).map(drop)
}

/// Hashes a file.
pub(super) fn hash(path: &Path) -> Result<()> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    hasher.finalize();
    Ok(())
}
