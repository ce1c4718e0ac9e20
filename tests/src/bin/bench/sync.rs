//! Trees in and out of a workspace by the command line, its start included, beside what else people
//! do it with and the least that it can cost. All of it is in memory where the machine has a file
//! system there; `docker cp` cannot be, so it writes where the daemon keeps its containers.

mod large;
mod memory;
mod small;
mod unchanged;
mod ways;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tempfile::TempDir;
use workspace_tests::agent::{Agent, Setup};

use crate::row::Row;

/// The file system in memory of most machines.
const IN_MEMORY: &str = "/dev/shm";
/// What a run takes of it, but for the largest file.
const ROOM: u64 = 6 << 30;
/// What is left free.
const SPARE: u64 = 1 << 30;

pub(crate) fn measure() -> Result<Vec<Row>> {
    let world = World::new()?;
    let mut rows = small::measure(&world, 10, 21)?;
    rows.extend(small::measure(&world, 1000, 7)?);
    rows.extend(unchanged::measure()?);
    rows.extend(large::measure(&world)?);
    rows.extend(memory::measure()?);
    Ok(rows)
}

/// An agent, and a directory beside its root.
struct World {
    agent: Agent,
    local: TempDir,
}

impl World {
    fn new() -> Result<Self> {
        Self::with_room(ROOM)?.map_err(anyhow::Error::msg)
    }

    /// With room for so many bytes, or why there is none.
    fn with_room(room: u64) -> Result<Result<Self, String>> {
        let Some(place) = place(room)? else {
            return Ok(Err(format!("no room for {} GiB in memory or on the disk", room >> 30)));
        };
        let agent = Setup::new_in(&place)?.start()?;
        Ok(Ok(Self { agent, local: tempfile::tempdir_in(place)? }))
    }

    fn push(&self, source: &Path, remote: &str) -> Result<()> {
        self.agent.run_cli("push", &[text(source)?, remote]).map(drop)
    }

    fn pull(&self, remote: &str, target: &Path) -> Result<()> {
        self.agent.run_cli("pull", &[remote, text(target)?]).map(drop)
    }

    /// A directory of the agent's that is not there yet, and its name for the agent.
    fn remote(&self, name: &str, number: usize) -> (PathBuf, String) {
        let name = format!("{name}{number}");
        (self.agent.root().join(&name), name)
    }
}

/// Where there is room for so many bytes and a little more: in memory, or else on the disk.
fn place(room: u64) -> Result<Option<PathBuf>> {
    let wanted = room + SPARE;
    let free = |at: &Path| rustix::fs::statvfs(at).map_or(0, |at| at.f_bavail * at.f_frsize);
    let (in_memory, on_disk) = (PathBuf::from(IN_MEMORY), std::env::temp_dir());
    if free(&in_memory).min(available_memory()?) >= wanted {
        return Ok(Some(in_memory));
    }
    Ok((free(&on_disk) >= wanted).then_some(on_disk))
}

/// Bytes that programs may still take (proc_meminfo(5)): a file system in memory promises more.
fn available_memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).context("no MemAvailable")?;
    Ok(kib.parse::<u64>()? * 1024)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("temporary paths are plain")
}

/// So many files of 4 KiB, twenty to a directory.
fn fill(directory: &Path, files: usize) -> Result<()> {
    for number in 0..files {
        let inner = directory.join(format!("d{}", number / 20));
        if number % 20 == 0 {
            fs::create_dir_all(&inner)?;
        }
        let content: Vec<u8> = format!("{number} ").into_bytes().repeat(4096);
        fs::write(inner.join(format!("{number}.txt")), &content[..4096])?;
    }
    Ok(())
}

/// Milliseconds of some work that makes a directory, which is removed afterwards.
fn making(made: &Path, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let time = crate::contest::timed(work)?;
    fs::remove_dir_all(made).with_context(|| format!("{} was not made", made.display()))?;
    Ok(time)
}
