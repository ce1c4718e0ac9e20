//! The processes of this machine, as far as the agent can see them: proc_pid_stat(5).

use std::{fs, io::Read};

use rustix::process::Pid;

use super::tree::Survivor;

/// As much of an environment as is read when a tree is ended. A shell passes its environment on in an
/// order of its own, so the marker may be anywhere in it; the kernel takes 6 MiB at most (execve(2)).
pub(super) const WHOLE: u64 = 6 << 20;
/// As much as is read when a tree is only counted, which must not take long: the kernel puts the
/// marker, which is the first variable, in the front, and shells have a few dozen others.
pub(super) const GLANCE: u64 = 64 << 10;

/// What the kernel says of a process is rarely longer: one call reads it, and one finds the end.
const USUAL: usize = 1 << 10;

/// What tells a process from a later one of the same number: the time it started, in clock ticks since
/// the machine did.
pub(super) type Identity = (Pid, u64);

/// A process that is alive.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: Pid,
    pub(super) name: String,
    pub(super) parent: Option<Pid>,
    pub(super) session: Option<Pid>,
    /// In clock ticks since the machine started.
    pub(super) started: u64,
}

/// All of them. One that cannot be read has gone, or is somebody else's.
pub(super) fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Process::read(Pid::from_raw(pid)?))
        .collect()
}

impl Process {
    /// What is said of one, unless it has ended. The name in parentheses may hold anything, so the
    /// fields are counted from its last parenthesis.
    pub(super) fn read(pid: Pid) -> Option<Self> {
        let text = read(&format!("/proc/{}/stat", pid.as_raw_nonzero()), WHOLE)?;
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let begin = text.iter().position(|byte| *byte == b'(')?;
        let name = String::from_utf8_lossy(text.get(begin + 1..end)?).into_owned();
        let fields = std::str::from_utf8(text.get(end + 2..)?).ok()?;
        let mut fields = fields.split(' ');
        let state = fields.next()?;
        let parent = pid_or_none(fields.next()?);
        let session = pid_or_none(fields.nth(1)?);
        let threads: u64 = fields.nth(13)?.parse().ok()?;
        let started = fields.nth(1)?.parse().ok()?;
        is_alive(state, threads).then_some(Self { pid, name, parent, session, started })
    }

    /// The first `limit` bytes of its environment.
    pub(super) fn environment(&self, limit: u64) -> Option<Vec<u8>> {
        read(&format!("/proc/{}/environ", self.pid.as_raw_nonzero()), limit)
    }

    pub(super) fn identity(&self) -> Identity {
        (self.pid, self.started)
    }

    pub(super) fn survivor(self) -> Survivor {
        Survivor { pid: self.pid.as_raw_nonzero().get(), name: self.name }
    }
}

/// A zombie is a process that waits to be collected, unless only its first thread has ended
/// (pthread_exit(3)): then the others go on.
fn is_alive(state: &str, threads: u64) -> bool {
    match state {
        "X" => false,
        "Z" => threads > 1,
        _ => true,
    }
}

/// Zero is a process of another namespace; a process that is being collected at this moment has the
/// session -1, which is no process id.
fn pid_or_none(field: &str) -> Option<Pid> {
    field.parse().ok().filter(|pid| *pid > 0).and_then(Pid::from_raw)
}

fn read(path: &str, limit: u64) -> Option<Vec<u8>> {
    let mut content = Vec::with_capacity(USUAL);
    fs::File::open(path).ok()?.take(limit).read_to_end(&mut content).ok()?;
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_process_that_is_going_are_no_process_ids() {
        assert_eq!(pid_or_none("-1"), None);
        assert_eq!(pid_or_none("0"), None);
        assert_eq!(pid_or_none("7"), Pid::from_raw(7));
    }

    #[test]
    fn a_process_whose_first_thread_has_ended_is_alive() {
        assert!(is_alive("S", 1) && is_alive("T", 1) && is_alive("Z", 2));
        assert!(!is_alive("Z", 1) && !is_alive("Z", 0) && !is_alive("X", 2));
    }
}
