//! Where and when the figures were measured.

use std::{fmt, fs, time::SystemTime};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// The machine, at the time of the run.
#[derive(Debug)]
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    kernel: String,
    date: String,
    /// Processes that ran or wanted to, on average of the minute before (proc_loadavg(5)).
    load: f64,
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
            cores: std::thread::available_parallelism()?.get(),
            processor: processor.to_owned(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            load,
        })
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "cores": self.cores, "processor": self.processor, "kernel": self.kernel,
            "date": self.date, "load_before": self.load,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, processor, kernel, date, load } = self;
        writeln!(
            f,
            "{date}: {cores} cores ({processor}), kernel {kernel}, load {load:.2} before."
        )?;
        write!(f, "Medians of interleaved rounds; ratio = ours / other, with its spread.")
    }
}
