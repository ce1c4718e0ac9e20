//! Starting one command: find the program, open the directory, make the pipes, spawn.
//!
//! Everything that can be wrong with a command is found here, before the spawn where possible, so
//! that the caller gets a reason and never an invented exit code.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, accessat, openat, statat},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::Pid,
};
use tokio::net::unix::pipe;

use crate::sys;

/// What to run, parsed and complete.
#[derive(Debug)]
pub struct CommandSpec {
    /// Program and arguments, at least one.
    pub argv: Vec<CString>,
    /// Directory to start in.
    pub cwd: PathBuf,
    /// The whole environment, as `NAME=value`.
    pub env: Vec<CString>,
    /// Whether standard input is a pipe; otherwise it is `/dev/null`.
    pub pipe_stdin: bool,
}

/// A process that has been started, with our ends of its pipes.
#[derive(Debug)]
pub struct Spawned {
    /// Process id, which is its session and group id too.
    pub pid: Pid,
    /// Standard input, when it was asked for.
    pub stdin: Option<pipe::Sender>,
    /// Standard output.
    pub stdout: pipe::Receiver,
    /// Standard error.
    pub stderr: pipe::Receiver,
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

/// Starts `spec`.
///
/// # Errors
/// See [`StartError`]; nothing is left behind.
pub fn spawn(spec: &CommandSpec) -> Result<Spawned, StartError> {
    let name = spec.argv.first().map_or(&b""[..], |name| name.as_bytes());
    let shown = String::from_utf8_lossy(name).into_owned();
    let cwd = open_directory(&spec.cwd)?;
    let program = find_program(name, cwd.as_fd(), &spec.env)?;
    let pipes = Pipes::new(spec.pipe_stdin).map_err(|source| start_error(source, &shown))?;
    let pid = sys::spawn(&sys::Spawn {
        program: &program,
        argv: &spec.argv,
        env: &spec.env,
        cwd: cwd.as_fd(),
        stdio: [pipes.child.0.as_fd(), pipes.child.1.as_fd(), pipes.child.2.as_fd()],
    })
    .map_err(|source| start_error(source, &shown))?;
    Ok(Spawned { pid, stdin: pipes.stdin, stdout: pipes.stdout, stderr: pipes.stderr })
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

struct Pipes {
    child: (OwnedFd, OwnedFd, OwnedFd),
    stdin: Option<pipe::Sender>,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

impl Pipes {
    fn new(pipe_stdin: bool) -> io::Result<Self> {
        let (child_stdin, stdin) = if pipe_stdin {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            (read, Some(pipe::Sender::from_owned_fd(write)?))
        } else {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            (openat(CWD, c"/dev/null", flags, Mode::empty())?, None)
        };
        let (stdout, child_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, child_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok(Self {
            child: (child_stdin, child_stdout, child_stderr),
            stdin,
            stdout: pipe::Receiver::from_owned_fd(stdout)?,
            stderr: pipe::Receiver::from_owned_fd(stderr)?,
        })
    }
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
