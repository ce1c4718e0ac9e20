//! Starting one command: find the program, open the directory, make the pipes, spawn.
//!
//! Everything that can be wrong with a command is found here, before the spawn where possible, so
//! that the caller gets a reason and never an invented exit code.

use std::{
    ffi::{CStr, CString},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, accessat, openat, statat},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Signal, kill_process},
};

use super::{
    cgroup::{Cgroups, Group, Holds},
    launcher::{Plan, await_report},
    limits::{Conditions, Limits, Verdict, Verdicts},
    pipe::{self, Sink, Source},
    terminal::{Size, Terminal},
};
use crate::sys;

/// What to run, parsed and complete.
#[derive(Debug, Default)]
pub struct CommandSpec {
    /// Program and arguments, at least one.
    pub argv: Vec<CString>,
    /// Directory to start in.
    pub cwd: PathBuf,
    /// The whole environment, as `NAME=value`.
    pub env: Vec<CString>,
    /// What its standard input and output are.
    pub stdio: Stdio,
    /// Limits and the like.
    pub conditions: Conditions,
}

impl CommandSpec {
    /// Whether it takes more than posix_spawn(3) to start it.
    pub fn needs_launcher(&self) -> bool {
        self.has_terminal() || !self.conditions.is_empty()
    }

    fn has_terminal(&self) -> bool {
        matches!(self.stdio, Stdio::Terminal(_))
    }
}

/// What the standard input and output of a command are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdio {
    /// Pipes.
    Pipes {
        /// Whether standard input is one; otherwise it is `/dev/null`.
        stdin: bool,
    },
    /// A terminal of this size.
    Terminal(Size),
}

impl Default for Stdio {
    fn default() -> Self {
        Self::Pipes { stdin: false }
    }
}

/// A process that has been started, with our ends of its pipes.
#[derive(Debug)]
pub struct Spawned {
    /// Process id, which is its session and group id too.
    pub pid: Pid,
    /// Our ends.
    pub ends: Ends,
    /// Its cgroup, where there are any.
    pub group: Option<Group>,
    /// What came of its conditions.
    pub verdicts: Verdicts,
}

/// Our ends of a command's input and output.
#[derive(Debug)]
pub struct Ends {
    /// Standard input, when it was asked for.
    pub stdin: Option<Sink>,
    /// Standard output, or the terminal.
    pub stdout: Arc<Source>,
    /// Standard error, unless there is a terminal.
    pub stderr: Option<Source>,
    /// The terminal, if it has one.
    pub terminal: Option<Terminal>,
}

/// Why a command could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No such program.
    #[error("there is no program '{program}'{}", search_hint(.searched))]
    CommandNotFound {
        /// The first word of the command.
        program: String,
        /// The PATH that was searched, when the name has no slash.
        searched: Option<String>,
    },
    /// The program is there and may not be executed.
    #[error("'{0}' may not be executed: check its mode and that its file system is not noexec")]
    PermissionDenied(String),
    /// The file is no program the kernel knows.
    #[error(
        "'{0}' is not a program for this machine: a script needs a first line such as #!/bin/sh"
    )]
    ExecFormat(String),
    /// The file names an interpreter or loader that is missing.
    #[error("'{0}' needs an interpreter or loader that does not exist")]
    BadInterpreter(String),
    /// The working directory is not there, is no directory, or is closed to this user.
    #[error("cannot use '{path}' as the working directory: {source}")]
    BadCwd {
        /// The directory asked for.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Arguments and environment are larger than the kernel takes.
    #[error(
        "arguments and environment together are larger than the kernel takes (execve(2), E2BIG)"
    )]
    TooLarge,
    /// The container has no terminals to give.
    #[error("no terminal can be opened (is /dev/pts mounted?): {0}")]
    NoTerminal(io::Error),
    /// No process, descriptor or memory to be had.
    #[error("the system has no room for another process: {0}")]
    Exhausted(io::Error),
    /// Anything else.
    #[error("cannot start '{program}': {source}")]
    Io {
        /// The first word of the command.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
}

fn search_hint(searched: &Option<String>) -> String {
    searched.as_ref().map_or_else(String::new, |path| format!(" in PATH={path}"))
}

/// Starts `spec`, in a cgroup of its own where there are `cgroups`.
///
/// # Errors
/// See [`StartError`]; nothing is left behind.
pub fn spawn(spec: &CommandSpec, cgroups: Option<&Cgroups>) -> Result<Spawned, StartError> {
    let name = spec.argv.first().map_or(&b""[..], |name| name.as_bytes());
    let shown = String::from_utf8_lossy(name).into_owned();
    let cwd = open_directory(&spec.cwd)?;
    let program = find_program(name, cwd.as_fd(), &spec.env)?;
    let (ends, theirs) = open_stdio(spec.stdio, &shown)?;
    let (group, holds) = enter_group(cgroups, &spec.conditions.limits);
    let start = Start { spec, program, cwd, theirs, group: group.as_ref(), holds };
    let (pid, verdicts) = start.run().map_err(|source| start_error(source, &shown))?;
    Ok(Spawned { pid, ends, group, verdicts })
}

/// A group for the command, and what it holds. Without one the command runs all the same.
fn enter_group(cgroups: Option<&Cgroups>, limits: &Limits) -> (Option<Group>, Holds) {
    let Some(cgroups) = cgroups else { return (None, Holds::default()) };
    match cgroups.group(limits) {
        Ok((group, holds)) => (Some(group), holds),
        Err(error) => {
            tracing::debug!(%error, "a command gets no cgroup");
            (None, Holds::default())
        }
    }
}

/// Everything that the start of a process takes.
struct Start<'a> {
    spec: &'a CommandSpec,
    program: CString,
    cwd: OwnedFd,
    theirs: [OwnedFd; 3],
    group: Option<&'a Group>,
    holds: Holds,
}

impl Start<'_> {
    fn run(self) -> io::Result<(Pid, Verdicts)> {
        if self.spec.needs_launcher() {
            return self.through_launcher();
        }
        let pid = self.spawn(&self.program, &self.spec.argv, None)?;
        if let Some(group) = self.group
            && let Err(error) = group.add(pid)
        {
            // It may have ended already. Its tree is found without the group, too.
            tracing::debug!(%error, "a command is not in its cgroup");
        }
        Ok((pid, Verdicts::new()))
    }

    /// Starts the launcher, which becomes the command.
    fn through_launcher(mut self) -> io::Result<(Pid, Verdicts)> {
        let (report, their_report) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut plan = Plan::new(&self.spec.conditions);
        plan.tty = self.spec.has_terminal();
        plan.cgroup = self.group.map(|group| group.path().to_owned());
        (plan.pids_by_cgroup, plan.memory_by_cgroup) = (self.holds.pids, self.holds.memory);
        let program = std::mem::take(&mut self.program);
        let argv = plan.arguments(program, &self.spec.argv)?;
        let pid = self.spawn(c"/proc/self/exe", &argv, Some(their_report.as_fd()))?;
        drop((their_report, self.theirs));
        // What has not become the command must not become it later. The collector takes it.
        let mut verdicts =
            await_report(report).inspect_err(|_error| _ = kill_process(pid, Signal::KILL))?;
        if self.spec.conditions.limits.pids.is_some() && !self.holds.pids {
            let why = "no writable cgroup version 2 with the pids controller";
            verdicts.insert("pids".to_owned(), Verdict::not_applied(why));
        }
        Ok((pid, verdicts))
    }

    fn spawn(
        &self,
        program: &CStr,
        argv: &[CString],
        report: Option<BorrowedFd<'_>>,
    ) -> io::Result<Pid> {
        let descriptors = self.theirs.iter().map(AsFd::as_fd).chain(report).collect::<Vec<_>>();
        let (env, cwd) = (&self.spec.env[..], self.cwd.as_fd());
        sys::spawn(&sys::Spawn { program, argv, env, cwd, descriptors: &descriptors })
    }
}

/// What an error of pipe(2), vfork(2) or execve(2) means. The program was found before, so a
/// missing file is its interpreter.
fn start_error(source: io::Error, program: &str) -> StartError {
    match Errno::from_io_error(&source) {
        Some(Errno::NOENT) => StartError::BadInterpreter(program.to_owned()),
        Some(Errno::ACCESS | Errno::PERM) => StartError::PermissionDenied(program.to_owned()),
        Some(Errno::NOEXEC) => StartError::ExecFormat(program.to_owned()),
        Some(Errno::TOOBIG) => StartError::TooLarge,
        Some(Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE) => {
            StartError::Exhausted(source)
        }
        _ => StartError::Io { program: program.to_owned(), source },
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, StartError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let bad = |errno: Errno| StartError::BadCwd {
        path: path.display().to_string(),
        source: errno.into(),
    };
    let directory = openat(CWD, path, flags, Mode::empty()).map_err(bad)?;
    accessat(&directory, c".", Access::EXEC_OK, AtFlags::empty()).map_err(bad)?;
    Ok(directory)
}

/// Finds the program as execvp(3) would, with the PATH of the command's own environment.
fn find_program(name: &[u8], cwd: BorrowedFd<'_>, env: &[CString]) -> Result<CString, StartError> {
    let shown = || String::from_utf8_lossy(name).into_owned();
    if name.contains(&b'/') {
        return match is_program(cwd, name) {
            Ok(program) => Ok(program),
            Err(Errno::ACCESS) => Err(StartError::PermissionDenied(shown())),
            Err(_) => Err(StartError::CommandNotFound { program: shown(), searched: None }),
        };
    }
    let path = env.iter().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="));
    let path = path.unwrap_or_default();
    let mut denied = false;
    for directory in path.split(|byte| *byte == b':').filter(|_| !name.is_empty()) {
        // An empty entry of PATH means the working directory.
        let directory = if directory.is_empty() { b"." } else { directory };
        match is_program(cwd, &[directory, b"/", name].concat()) {
            Ok(program) => return Ok(program),
            Err(errno) => denied |= errno == Errno::ACCESS,
        }
    }
    if denied {
        return Err(StartError::PermissionDenied(shown()));
    }
    let searched = Some(String::from_utf8_lossy(path).into_owned());
    Err(StartError::CommandNotFound { program: shown(), searched })
}

/// The path as exec takes it, if there is a file that may be executed.
fn is_program(cwd: BorrowedFd<'_>, path: &[u8]) -> Result<CString, Errno> {
    let path = CString::new(path).map_err(|_nul| Errno::INVAL)?;
    let stat = statat(cwd, &path, AtFlags::empty())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::ACCESS);
    }
    accessat(cwd, &path, Access::EXEC_OK, AtFlags::empty())?;
    Ok(path)
}

/// Our ends, and the command's: standard input, output and error.
fn open_stdio(stdio: Stdio, shown: &str) -> Result<(Ends, [OwnedFd; 3]), StartError> {
    match stdio {
        Stdio::Pipes { stdin } => open_pipes(stdin).map_err(|source| start_error(source, shown)),
        Stdio::Terminal(size) => open_terminal(size).map_err(StartError::NoTerminal),
    }
}

fn open_pipes(stdin: bool) -> io::Result<(Ends, [OwnedFd; 3])> {
    let (stdin, their_stdin) = if stdin {
        let (ours, theirs) = pipe::for_input()?;
        (Some(ours), theirs)
    } else {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        (None, openat(CWD, c"/dev/null", flags, Mode::empty())?)
    };
    let (stdout, their_stdout) = pipe::for_output()?;
    let (stderr, their_stderr) = pipe::for_output()?;
    let (stdout, stderr) = (Arc::new(stdout), Some(stderr));
    let ends = Ends { stdin, stdout, stderr, terminal: None };
    Ok((ends, [their_stdin, their_stdout, their_stderr]))
}

fn open_terminal(size: Size) -> io::Result<(Ends, [OwnedFd; 3])> {
    let (terminal, theirs) = Terminal::open(size)?;
    let (stdin, stdout) = (Some(terminal.sink()?), terminal.source());
    let copy = || theirs.try_clone();
    let ends = Ends { stdin, stdout, stderr: None, terminal: Some(terminal) };
    Ok((ends, [copy()?, copy()?, theirs]))
}

/// Joins `NAME` and `value` for an environment.
///
/// # Errors
/// When the name is empty or holds `=`, or either holds a NUL byte.
pub fn env_entry(name: &std::ffi::OsStr, value: &std::ffi::OsStr) -> Result<CString, String> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.contains(&b'=') {
        return Err(format!("'{}' cannot name an environment variable", name.display()));
    }
    CString::new([bytes, b"=", value.as_bytes()].concat())
        .map_err(|_nul| format!("environment variable '{}' holds a NUL byte", name.display()))
}

#[cfg(test)]
mod tests;
