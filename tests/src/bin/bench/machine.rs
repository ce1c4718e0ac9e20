//! Where and when the figures were measured.

use std::{
    fmt, fs, thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// How long the machine is watched before anything is measured.
const WATCH: Duration = Duration::from_secs(2);

/// The machine, at the time of the run.
#[derive(Debug)]
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    kernel: String,
    date: String,
    /// Processes that ran or wanted to, on average of the minute before (proc_loadavg(5)).
    load: f64,
    /// What others took of all cores just before, in percent.
    busy: f64,
}

impl Machine {
    /// Looks at this machine. Call it before the load of the benchmark itself.
    pub(crate) fn look() -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let processor = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        let processor = processor.map_or("unknown", |rest| rest.trim_matches([' ', '\t', ':']));
        let load = fs::read_to_string("/proc/loadavg")?;
        let load = load.split(' ').next().context("/proc/loadavg is empty")?.parse()?;
        Ok(Self {
            cores: thread::available_parallelism()?.get(),
            processor: processor.to_owned(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            load,
            busy: busy_percent()?,
        })
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "cores": self.cores, "processor": self.processor, "kernel": self.kernel,
            "date": self.date, "load_before": self.load, "busy_percent_before": self.busy,
        })
    }
}

fn busy_percent() -> Result<f64> {
    let (all, idle) = processor_ticks()?;
    thread::sleep(WATCH);
    let (all_after, idle_after) = processor_ticks()?;
    Ok(100.0 * (1.0 - (idle_after - idle) / (all_after - all)))
}

/// All ticks of all cores so far, and the idle ones, waiting for disks included (proc_stat(5)).
fn processor_ticks() -> Result<(f64, f64)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let cpu = stat.lines().next().and_then(|line| line.strip_prefix("cpu "));
    let fields = cpu.context("/proc/stat does not begin with the cpu line")?;
    let ticks = fields.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    Ok((ticks.iter().take(8).sum(), ticks.iter().skip(3).take(2).sum()))
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, processor, kernel, date, load, busy } = self;
        writeln!(f, "{date}: {cores} cores ({processor}), kernel {kernel}.")?;
        writeln!(f, "Others before the run: load {load:.2}, {busy:.0} % of all cores.")?;
        write!(f, "Medians of interleaved rounds; ratio = ours / other, with its spread.")
    }
}
