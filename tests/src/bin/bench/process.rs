//! What the kernel says about a process (proc_pid_status(5), proc_pid_stat(5)).

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// The unit of times in /proc/PID/stat: USER_HZ, which is part of the kernel's interface and 100 on
/// every processor that the product is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Resident memory, in KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<f64> {
    status_kib(pid, "VmRSS:")
}

/// The most resident memory that it ever had, in KiB.
pub(crate) fn peak_kib(pid: u32) -> Result<f64> {
    status_kib(pid, "VmHWM:")
}

fn status_kib(pid: u32, field: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|rest| rest.split_whitespace().next());
    Ok(kib.with_context(|| format!("no {field} in the status of {pid}"))?.parse()?)
}

/// Time on the processor so far, in user mode and in the kernel, without its children.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything; utime and stime are fields 14 and 15 of the line.
    let (_, fields) = stat.rsplit_once(") ").context("no name in stat")?;
    let ticks: Vec<f64> = fields.split(' ').skip(11).take(2).flat_map(str::parse).collect();
    Ok(Duration::from_secs_f64(ticks.iter().sum::<f64>() / TICKS_PER_SECOND))
}
