//! The kernel calls that have no safe wrapper: posix_spawn(3), wait4(2), unshare(2) of the user
//! namespace, raising the loopback interface, and wiping the environment.
//!
//! This is the only file of the project with `unsafe`; each block does one thing and says why it
//! is sound. Nothing here decides anything.
#![expect(unsafe_code, reason = "these kernel interfaces have no safe wrapper")]

use std::{
    ffi::{CStr, CString, c_char, c_int},
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    ptr,
    time::Duration,
};

use rustix::process::Pid;

/// What posix_spawn(3) needs to start a program.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// Path of the program; no search is made.
    pub program: &'a CStr,
    /// Arguments, the program's name included.
    pub argv: &'a [CString],
    /// The whole environment, as `NAME=value`.
    pub env: &'a [CString],
    /// Directory to start in.
    pub cwd: BorrowedFd<'a>,
    /// What the program has open, from descriptor 0 on: standard input, output, error, and perhaps
    /// more. Every other descriptor must be close-on-exec.
    pub descriptors: &'a [BorrowedFd<'a>],
}

/// Starts a program in a session of its own, with no signal blocked or ignored.
///
/// posix_spawn(3) shares memory with the parent until exec (a vfork), so its cost does not grow
/// with the agent's size; and it reports the failure of the exec itself.
///
/// # Errors
/// As chdir(2), dup2(2) and execve(2) in the child.
pub fn spawn(spawn: &Spawn<'_>) -> io::Result<Pid> {
    let mut actions = FileActions::new()?;
    actions.change_directory(spawn.cwd)?;
    for (target, source) in (0..).zip(spawn.descriptors) {
        actions.duplicate(*source, target)?;
    }
    let attributes = Attributes::fresh_session()?;
    let argv = pointers(spawn.argv);
    let env = pointers(spawn.env);
    let mut pid = 0;
    // SAFETY: every pointer is valid for the call: `program`, `argv` and `env` borrow C strings and
    // end with a null pointer, and the actions and attributes are initialised.
    check(unsafe {
        libc::posix_spawn(
            &raw mut pid,
            spawn.program.as_ptr(),
            actions.0.as_ptr(),
            attributes.0.as_ptr(),
            argv.as_ptr(),
            env.as_ptr(),
        )
    })?;
    Pid::from_raw(pid).ok_or_else(|| io::Error::other("posix_spawn gave no process id"))
}

/// Becomes `program`, with this process's environment and the default disposition of SIGPIPE, which
/// Rust programs ignore. It returns only when that failed.
///
/// Unlike execvp(3) it does not hand a file without a `#!` line to a shell: such a file is an error
/// however a command is started.
pub fn exec(program: &CStr, argv: &[CString]) -> io::Error {
    let argv = pointers(argv);
    // SAFETY: restoring the default disposition runs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    // SAFETY: `program` and every element of `argv` are C strings that outlive the call, and the
    // array ends with a null pointer.
    unsafe { libc::execv(program.as_ptr(), argv.as_ptr().cast::<*const c_char>()) };
    io::Error::last_os_error()
}

/// Takes over a descriptor that this process was started with, and keeps it from its successors.
///
/// # Errors
/// When it is not open.
pub fn adopt_descriptor(fd: c_int) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD changes a flag of a descriptor and owns nothing; a closed one is EBADF.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and the launcher, which alone calls this, does so once at its start.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The null-terminated array of pointers that exec takes. It borrows `strings` without saying so:
/// callers keep them alive.
fn pointers(strings: &[CString]) -> Vec<*mut c_char> {
    strings.iter().map(|s| s.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
}

/// posix_spawn(3) and its helpers return the error number instead of setting `errno`.
fn check(code: c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

struct FileActions(MaybeUninit<libc::posix_spawn_file_actions_t>);

impl FileActions {
    fn new() -> io::Result<Self> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: the pointer is valid for writing the value that init fills in.
        check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        Ok(Self(actions))
    }

    fn change_directory(&mut self, to: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: the actions are initialised, and the descriptor outlives the spawn.
        check(unsafe {
            libc::posix_spawn_file_actions_addfchdir_np(self.0.as_mut_ptr(), to.as_raw_fd())
        })
    }

    fn duplicate(&mut self, source: BorrowedFd<'_>, target: c_int) -> io::Result<()> {
        // SAFETY: the actions are initialised, and the descriptor outlives the spawn.
        check(unsafe {
            libc::posix_spawn_file_actions_adddup2(self.0.as_mut_ptr(), source.as_raw_fd(), target)
        })
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: the actions are initialised and not used again.
        unsafe { libc::posix_spawn_file_actions_destroy(self.0.as_mut_ptr()) };
    }
}

struct Attributes(MaybeUninit<libc::posix_spawnattr_t>);

impl Attributes {
    /// A new session, an empty signal mask, and the default disposition of every signal: whatever
    /// the runtime or our own parent ignores must not reach the command.
    fn fresh_session() -> io::Result<Self> {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: the pointer is valid for writing the value that init fills in.
        check(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        let mut attributes = Self(attributes);
        let flags = libc::POSIX_SPAWN_SETSID
            | c_short(libc::POSIX_SPAWN_SETSIGMASK)
            | c_short(libc::POSIX_SPAWN_SETSIGDEF);
        // SAFETY: the attributes are initialised.
        check(unsafe { libc::posix_spawnattr_setflags(attributes.0.as_mut_ptr(), flags) })?;
        let none = signal_set(|set| {
            // SAFETY: `set` points to memory for a signal set.
            unsafe { libc::sigemptyset(set) }
        })?;
        // SAFETY: the attributes are initialised and the set is filled.
        check(unsafe {
            libc::posix_spawnattr_setsigmask(attributes.0.as_mut_ptr(), &raw const none)
        })?;
        let all = signal_set(|set| {
            // SAFETY: `set` points to memory for a signal set.
            unsafe { libc::sigfillset(set) }
        })?;
        // SAFETY: the attributes are initialised and the set is filled.
        check(unsafe {
            libc::posix_spawnattr_setsigdefault(attributes.0.as_mut_ptr(), &raw const all)
        })?;
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: the attributes are initialised and not used again.
        unsafe { libc::posix_spawnattr_destroy(self.0.as_mut_ptr()) };
    }
}

/// The C library declares the flags as `int` and takes them as `short`; all of them fit.
#[expect(clippy::cast_possible_truncation, reason = "the flags are single low bits")]
const fn c_short(flag: c_int) -> libc::c_short {
    flag as libc::c_short
}

fn signal_set(fill: impl FnOnce(*mut libc::sigset_t) -> c_int) -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::uninit();
    if fill(set.as_mut_ptr()) != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both functions that fill a set initialise all of it when they return 0.
    Ok(unsafe { set.assume_init() })
}

/// A child that has ended and is not collected yet; it stays collectable (waitid(2), `WNOWAIT`).
pub fn ended_child() -> Option<Pid> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the pointer is valid for writing a `siginfo_t`.
    let code = unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) };
    if code != 0 {
        return None;
    }
    // SAFETY: `siginfo_t` is plain data, for which the zeroes it began with are valid too.
    let info = unsafe { info.assume_init() };
    // SAFETY: waitid fills in the fields of SIGCHLD, or leaves the zeroes when no child has ended.
    Pid::from_raw(unsafe { info.si_pid() })
}

/// How a child ended and what it used (wait4(2), getrusage(2)).
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// Time on the processor in user mode, with children it waited for.
    pub user: Duration,
    /// Time on the processor in the kernel, with children it waited for.
    pub system: Duration,
    /// Largest resident set, in bytes.
    pub max_rss_bytes: u64,
}

/// Collects `pid` if it has ended; `None` while it runs.
///
/// # Errors
/// As wait4(2): `ECHILD` when it is no child of ours.
pub fn reap(pid: Pid) -> io::Result<Option<Ended>> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are valid for writing; WNOHANG only keeps the call from blocking.
    let reaped = unsafe {
        libc::wait4(pid.as_raw_nonzero().get(), &raw mut status, libc::WNOHANG, usage.as_mut_ptr())
    };
    if reaped < 0 {
        return Err(io::Error::last_os_error());
    }
    if reaped == 0 {
        return Ok(None);
    }
    // SAFETY: `rusage` is plain integers, for which the zeroes it began with are valid too.
    let usage = unsafe { usage.assume_init() };
    Ok(Some(Ended {
        status: ExitStatus::from_raw(status),
        user: duration(usage.ru_utime),
        system: duration(usage.ru_stime),
        // getrusage(2): kibibytes on Linux.
        max_rss_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(1024),
    }))
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

/// Moves this process into a new user namespace and a new network namespace (user_namespaces(7),
/// network_namespaces(7)). The process must have one thread.
///
/// # Errors
/// As unshare(2): `EPERM` where a seccomp filter or a sysctl forbids it, `EINVAL` with threads.
pub fn unshare_user_and_network() -> io::Result<()> {
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    // SAFETY: neither flag concerns memory or descriptors that other threads could share.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNET) }.map_err(io::Error::from)
}

/// Raises the interface `lo` (netdevice(7)).
///
/// # Errors
/// As ioctl(2). gVisor answers `ENOTTY`, and has `lo` up from the start.
pub fn raise_loopback(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(*b"lo") {
        *to = c_char::from_ne_bytes([from]);
    }
    #[expect(clippy::cast_possible_truncation, reason = "both flags are low bits of a short")]
    let flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    let request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags },
    };
    // SAFETY: the request is a complete `ifreq` that the kernel only reads for SIOCSIFFLAGS.
    let code =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Holds SIGTERM and SIGINT back, for this thread and those it starts, until they can be handled: a
/// stop that is asked for during the start is not lost, as it would be for PID 1, whom the kernel
/// spares signals without a handler (pid_namespaces(7)).
///
/// # Errors
/// As pthread_sigmask(3).
pub fn hold_stop_signals() -> io::Result<()> {
    mask_stop_signals(libc::SIG_BLOCK)
}

/// Lets SIGTERM and SIGINT through again, to this thread.
///
/// # Errors
/// As pthread_sigmask(3).
pub fn release_stop_signals() -> io::Result<()> {
    mask_stop_signals(libc::SIG_UNBLOCK)
}

fn mask_stop_signals(how: c_int) -> io::Result<()> {
    let mut set = signal_set(|set| {
        // SAFETY: `set` points to memory for a signal set.
        unsafe { libc::sigemptyset(set) }
    })?;
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: the set is initialised.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    // SAFETY: the set is initialised; the old one is not asked for.
    check(unsafe { libc::pthread_sigmask(how, &raw const set, ptr::null_mut()) })
}

/// Overwrites the environment that the process was started with, where the kernel shows it to others
/// (proc(5), /proc/PID/environ), and empties it. The process must have one thread.
///
/// A kernel that knows of no undumpable processes (gVisor's) shows it to every process of the user.
pub fn wipe_environment() {
    // SAFETY: `environ` is a pointer that only this thread could change.
    let mut entry = unsafe { environ };
    // SAFETY: it is null, or points to an array of pointers that ends with a null one.
    while let Some(&text) = unsafe { entry.as_ref() } {
        if text.is_null() {
            break;
        }
        // SAFETY: it points to a C string.
        let length = unsafe { libc::strlen(text) };
        // SAFETY: the string lies in memory of this process that is writable, and nobody holds a
        // reference: what reads variables copies them.
        unsafe { ptr::write_bytes(text, 0, length) };
        // SAFETY: the null pointer at the array's end has not been reached.
        entry = unsafe { entry.add(1) };
    }
    // SAFETY: no other thread reads the environment.
    unsafe { libc::clearenv() };
}

unsafe extern "C" {
    /// The array of environ(7).
    static mut environ: *mut *mut c_char;
}

/// Marks every descriptor above standard error close-on-exec, whoever opened it: what the parent of
/// the agent left open must not reach commands.
pub fn close_inherited_on_exec(highest: c_int) {
    for fd in 3..=highest {
        // SAFETY: F_SETFD changes a flag of a descriptor and owns nothing; a closed one is EBADF.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}
