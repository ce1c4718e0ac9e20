//! The little program between the agent and a command that wants a terminal, limits, or anything
//! else that posix_spawn(3) cannot set up: the agent's own binary, started with [`ARGUMENT`] in the
//! command's place. It does what the [`Plan`] says, reports, and becomes the command.
//!
//! It runs in the command's session, with its environment and directory, and with its user's rights:
//! nothing here is a decision about what is permitted.

use std::{
    ffi::{CString, OsString},
    fs, io,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::ffi::OsStringExt},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::Mode,
    io::Errno,
    process::{
        Resource, Rlimit, getrlimit, ioctl_tiocsctty, setpriority_process, setrlimit, umask,
    },
};
use serde::{Deserialize, Serialize};

use super::limits::{Conditions, Limits, Verdict, Verdicts};
use crate::{kernel_file, sys};

/// The agent's first argument when it is started as a launcher. Not part of the command line.
pub const ARGUMENT: &str = "--launch";
/// The descriptor on which it reports; its end is the command's beginning.
pub const REPORT_FD: i32 = 3;
/// A launcher takes a millisecond. One that takes this long has hung, on a terminal or a cgroup.
const PATIENCE: Duration = Duration::from_secs(10);
/// The exit code of a launcher that did not become the command; nobody sees it.
const FAILED: u8 = 127;

/// What to do before becoming the command.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Plan {
    /// Standard input is a terminal, to become the controlling one.
    pub tty: bool,
    /// The cgroup to join.
    pub cgroup: Option<PathBuf>,
    /// Whether that cgroup limits the number of processes.
    pub pids_by_cgroup: bool,
    /// Whether that cgroup limits the memory.
    pub memory_by_cgroup: bool,
    /// Limits of the processes themselves.
    pub limits: Limits,
    /// As in [`Conditions`].
    pub nice: Option<i32>,
    /// As in [`Conditions`].
    pub oom_score_adj: Option<i32>,
    /// As in [`Conditions`].
    pub umask: Option<u32>,
}

impl Plan {
    /// A plan for these conditions, without a terminal or a cgroup.
    pub fn new(conditions: &Conditions) -> Self {
        let Conditions { limits, nice, oom_score_adj, umask } = *conditions;
        Self { limits, nice, oom_score_adj, umask, ..Self::default() }
    }

    /// The arguments of a launcher that becomes `program` with `argv`.
    ///
    /// # Errors
    /// When the plan cannot be written; never in practice.
    pub fn arguments(&self, program: CString, argv: &[CString]) -> io::Result<Vec<CString>> {
        let plan = CString::new(serde_json::to_vec(self)?)?;
        let own = [c"workspace-agent".to_owned(), CString::new(ARGUMENT)?, plan, program];
        Ok(own.into_iter().chain(argv.iter().cloned()).collect())
    }
}

/// What a launcher says.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What came of each wish.
    #[serde(default)]
    pub verdicts: Verdicts,
    /// Why it could not become the command, if so.
    #[serde(default)]
    pub errno: Option<i32>,
}

/// Waits until the launcher has become the command or failed.
///
/// # Errors
/// When it could not become the command, as execve(2), or said nothing.
pub fn await_report(from: OwnedFd) -> io::Result<Verdicts> {
    let mut said = Vec::new();
    let mut from = fs::File::from(from);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&from, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Err(io::Error::other("the launcher of the command hangs")),
            Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut chunk = [0; 4096];
        match from.read(&mut chunk)? {
            0 => break,
            read => said.extend_from_slice(chunk.get(..read).unwrap_or_default()),
        }
    }
    understand(&said)
}

/// One line is a report, a second one an exec that failed.
fn understand(said: &[u8]) -> io::Result<Verdicts> {
    let mut lines = said.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let first = lines.next().ok_or_else(|| io::Error::other("the launcher ended early"))?;
    let report: Report = serde_json::from_slice(first)?;
    let failure = match lines.next() {
        Some(line) => serde_json::from_slice::<Report>(line)?.errno,
        None => report.errno,
    };
    failure.map_or(Ok(report.verdicts), |errno| Err(io::Error::from_raw_os_error(errno)))
}

/// The life of a launcher: it returns only when it could not become the command.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut report = sys::adopt_descriptor(REPORT_FD).map(fs::File::from);
    let failure = launch(&mut arguments, &mut report);
    let errno = failure.raw_os_error().unwrap_or(libc::EINVAL);
    say(&mut report, &Report { errno: Some(errno), ..Report::default() });
    ExitCode::from(FAILED)
}

fn launch(
    arguments: &mut impl Iterator<Item = OsString>,
    report: &mut io::Result<fs::File>,
) -> io::Error {
    let prepared = (|| {
        let missing = || io::Error::from_raw_os_error(libc::EINVAL);
        let plan = arguments.next().ok_or_else(missing)?.into_vec();
        let plan: Plan = serde_json::from_slice(&plan)?;
        let words = arguments.map(|word| CString::new(word.into_vec()));
        let words = words.collect::<Result<Vec<_>, _>>()?;
        let (program, argv) = words.split_first().ok_or_else(missing)?;
        let verdicts = carry_out(&plan)?;
        say(report, &Report { verdicts, errno: None });
        Ok::<_, io::Error>((program.clone(), argv.to_vec()))
    })();
    match prepared {
        Ok((program, argv)) => sys::exec(&program, &argv),
        Err(error) => error,
    }
}

fn say(to: &mut io::Result<fs::File>, report: &Report) {
    let Ok(to) = to else { return };
    if let Ok(mut line) = serde_json::to_vec(report) {
        line.push(b'\n');
        // Nobody is left to tell when the agent has gone.
        to.write_all(&line).ok();
    }
}

fn carry_out(plan: &Plan) -> io::Result<Verdicts> {
    if plan.tty {
        ioctl_tiocsctty(rustix::stdio::stdin())?;
    }
    let mut verdicts = Verdicts::new();
    let mut note = |name: &str, verdict| _ = verdicts.insert(name.to_owned(), verdict);
    let joined =
        plan.cgroup.as_ref().map(|group| kernel_file::write(group.join("cgroup.procs"), "0"));
    let joined = joined.unwrap_or(Ok(()));
    if plan.pids_by_cgroup {
        note("pids", verdict(&joined));
    }
    if plan.memory_by_cgroup {
        note("memory_bytes", verdict(&joined));
    }
    if let Some(mode) = plan.umask {
        umask(Mode::from_raw_mode(mode));
        note("umask", Verdict::applied());
    }
    if let Some(nice) = plan.nice {
        note("nice", verdict(&setpriority_process(None, nice).map_err(io::Error::from)));
    }
    if let Some(score) = plan.oom_score_adj {
        let told = kernel_file::write("/proc/self/oom_score_adj", &score.to_string());
        note("oom_score_adj", verdict(&told));
    }
    // The last: they bind what is done here, too.
    for (name, resource, wanted) in own_limits(&plan.limits) {
        if let Some(wanted) = wanted {
            note(name, limit(resource, wanted));
        }
    }
    if let (Some(wanted), false) = (plan.limits.memory_bytes, plan.memory_by_cgroup) {
        let verdict = match limit(Resource::As, wanted) {
            held if held == Verdict::applied() => Verdict::applied_as("address space (RLIMIT_AS)"),
            other => other,
        };
        note("memory_bytes", verdict);
    }
    Ok(verdicts)
}

fn own_limits(limits: &Limits) -> [(&'static str, Resource, Option<u64>); 5] {
    [
        ("nofile", Resource::Nofile, limits.nofile),
        ("nproc", Resource::Nproc, limits.nproc),
        ("cpu_seconds", Resource::Cpu, limits.cpu_seconds),
        ("file_size_bytes", Resource::Fsize, limits.file_size_bytes),
        ("core_bytes", Resource::Core, limits.core_bytes),
    ]
}

/// Sets both the soft and the hard limit, so that the command cannot raise it again.
fn limit(resource: Resource, wanted: u64) -> Verdict {
    match setrlimit(resource, Rlimit { current: Some(wanted), maximum: Some(wanted) }) {
        Ok(()) => Verdict::applied(),
        Err(error) => match getrlimit(resource).maximum {
            Some(hard) if hard < wanted => {
                Verdict::not_applied(format!("{hard} is the most that the agent may give"))
            }
            _ => Verdict::not_applied(error),
        },
    }
}

fn verdict(result: &io::Result<()>) -> Verdict {
    match result {
        Ok(()) => Verdict::applied(),
        Err(error) => Verdict::not_applied(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_alone_is_a_start_and_an_error_after_it_is_none() {
        let report = br#"{"verdicts":{"nice":"applied"}}"#;
        let verdicts = understand(report).unwrap();
        assert_eq!(verdicts["nice"], Verdict::applied());
        let failed = [&report[..], b"\n{\"errno\":8}\n"].concat();
        assert_eq!(understand(&failed).unwrap_err().raw_os_error(), Some(8));
        assert_eq!(understand(b"{\"errno\":22}\n").unwrap_err().raw_os_error(), Some(22));
        assert!(understand(b"").is_err() && understand(b"x").is_err());
    }

    #[test]
    fn a_plan_comes_back_from_its_arguments() {
        let plan = Plan { tty: true, umask: Some(0o27), ..Plan::default() };
        let arguments = plan.arguments(c"/bin/x".to_owned(), &[c"x".to_owned()]).unwrap();
        let read: Plan = serde_json::from_slice(arguments[2].as_bytes()).unwrap();
        assert_eq!((read.tty, read.umask), (true, Some(0o27)));
        assert_eq!(arguments[3..], [c"/bin/x".to_owned(), c"x".to_owned()]);
    }
}
