//! What is in an image, as the daemon and a plain `tar` see it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};

use crate::docker::docker;

/// A file or directory of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Kind and permissions as `tar` prints them, such as `-rwxr-xr-x`.
    pub mode: String,
    /// Its path, without a slash in front.
    pub path: String,
}

/// The configuration of an image: `User`, `Entrypoint`, `Labels` and so on.
///
/// # Errors
/// When the daemon does not have it.
pub fn config(image: &str) -> Result<Value> {
    let text = docker(&["image", "inspect", "--format", "{{json .Config}}", image])?;
    serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
}

/// A container made from the image and never started, to look into; it is removed with this value.
#[derive(Debug)]
struct Still(String);

impl Still {
    fn new(image: &str) -> Result<Self> {
        Ok(Self(docker(&["create", image])?))
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        drop(docker(&["rm", "--force", &self.0]));
    }
}

/// Everything in an image, without what the daemon adds to every container.
///
/// # Errors
/// When the daemon or `tar` fails.
pub fn entries(image: &str) -> Result<Vec<Entry>> {
    let still = Still::new(image)?;
    let archive = NamedTempFile::new()?;
    let path = archive.path().to_string_lossy().into_owned();
    docker(&["export", "--output", &path, &still.0])?;
    let list = Command::new("tar").args(["--numeric-owner", "-tvf", &path]).output()?;
    ensure!(list.status.success(), "tar: {}", String::from_utf8_lossy(&list.stderr));
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let added = ["dev/", "etc/", "proc/", "sys/", ".dockerenv"];
    let entries = list.lines().filter_map(entry);
    Ok(entries.filter(|entry| !added.contains(&entry.path.as_str())).collect())
}

/// One line: mode, owner, size, date, time, path.
fn entry(line: &str) -> Option<Entry> {
    let mut words = line.split_whitespace();
    let mode = words.next()?.to_owned();
    let path = words.nth(4)?.to_owned();
    Some(Entry { mode, path })
}

/// Copies a file out of an image into a directory.
///
/// # Errors
/// When it is not in the image.
pub fn copy_out(image: &str, path: &str, into: &TempDir) -> Result<PathBuf> {
    let still = Still::new(image)?;
    let name = Path::new(path).file_name().context("a path without a name")?;
    let target = into.path().join(name);
    docker(&["cp", &format!("{}:{path}", still.0), &target.to_string_lossy()])?;
    Ok(target)
}
