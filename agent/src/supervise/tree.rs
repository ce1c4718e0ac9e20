//! Everything that a command has started: found through /proc by session and by a marker in the
//! environment, so that children which forked twice, called setsid(2) or changed their group are
//! found too; and ended, TERM first, KILL after a grace, until nobody is left.

use std::{
    fs,
    io::Read,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Environment variable that marks a command's processes with its id.
pub const MARKER: &str = "WORKSPACE_EXEC_ID";
/// How often the remains of a tree are looked for while it ends.
const SWEEP_INTERVAL: Duration = Duration::from_millis(20);
/// After KILL, how long to go on before the survivors are named: only a process stuck in the
/// kernel takes longer.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// Enough of /proc/PID/stat for the session, and of /proc/PID/environ for the marker, which the
/// agent puts first.
const PROC_READ_LIMIT: u64 = 4096;

/// The processes of one command, or of all commands of this agent.
#[derive(Debug, Clone)]
pub struct Tree {
    session: Option<Pid>,
    marker: Vec<u8>,
}

impl Tree {
    /// The tree of the command that leads `session` and whose processes carry `id`.
    pub fn of_command(session: Pid, id: &str) -> Self {
        Self { session: Some(session), marker: format!("{MARKER}={id}\0").into_bytes() }
    }

    /// The trees of all commands whose ids begin with `prefix`.
    pub fn of_all(prefix: &str) -> Self {
        Self { session: None, marker: format!("{MARKER}={prefix}").into_bytes() }
    }

    /// How many members are alive. A process that cannot be read has gone or is somebody else's.
    pub fn count(&self) -> usize {
        self.members().len()
    }

    fn members(&self) -> Vec<Member> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(Pid::from_raw)
            .filter_map(|pid| self.member(pid))
            .collect()
    }

    fn member(&self, pid: Pid) -> Option<Member> {
        let stat = Stat::read(pid)?;
        if stat.ended {
            return None;
        }
        let in_session = self.session.is_some_and(|s| stat.session == s.as_raw_nonzero().get());
        let marked = || {
            let environ = read(&format!("/proc/{}/environ", pid.as_raw_nonzero()))?;
            self.marks(&environ).then_some(())
        };
        (in_session || marked().is_some()).then_some(Member { pid, in_session })
    }

    fn marks(&self, environ: &[u8]) -> bool {
        if self.marker.ends_with(b"\0") {
            environ.split_inclusive(|byte| *byte == 0).any(|entry| entry == self.marker)
        } else {
            environ.split(|byte| *byte == 0).any(|entry| entry.starts_with(&self.marker))
        }
    }

    /// Signals every member and says how many there were. The group is signalled as a whole as
    /// long as one member holds its number, so that a fork between two signals slips through
    /// nothing, and a number that was given away is never signalled.
    fn signal(&self, signal: Signal) -> usize {
        let members = self.members();
        if let Some(session) = self.session
            && members.iter().any(|member| member.in_session)
        {
            ignore_gone(kill_process_group(session, signal));
        }
        for member in &members {
            ignore_gone(kill_process(member.pid, signal));
        }
        members.len()
    }

    /// Ends the whole tree: TERM, `grace` to comply, KILL, and again until nobody is left. Returns
    /// how many are left after all, which is 0 unless the kernel cannot end one.
    pub async fn end(&self, grace: Duration) -> usize {
        if self.signal(Signal::TERM) == 0 {
            return 0;
        }
        let deadline = Instant::now() + grace;
        while Instant::now() < deadline {
            if self.count() == 0 {
                return 0;
            }
            tokio::time::sleep(SWEEP_INTERVAL.min(grace)).await;
        }
        let deadline = Instant::now() + KILL_PATIENCE;
        loop {
            let left = self.signal(Signal::KILL);
            if left == 0 || Instant::now() >= deadline {
                return left;
            }
            tokio::time::sleep(SWEEP_INTERVAL).await;
        }
    }
}

struct Member {
    pid: Pid,
    in_session: bool,
}

/// Whether a child that nobody owns may be alive: what a command leaves running is given to the
/// agent's main thread (prctl(2), PR_SET_CHILD_SUBREAPER). Far cheaper than looking through /proc;
/// where the kernel does not list children the answer is yes.
pub fn may_have_orphans(is_owned: impl Fn(Pid) -> bool) -> bool {
    let main = std::process::id();
    let Ok(children) = fs::read_to_string(format!("/proc/self/task/{main}/children")) else {
        return true;
    };
    children
        .split_ascii_whitespace()
        .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
        .any(|pid| !is_owned(pid))
}

/// A process that ended before its signal came is what was wanted.
fn ignore_gone(result: rustix::io::Result<()>) {
    if let Err(error) = result
        && error != rustix::io::Errno::SRCH
    {
        tracing::debug!(%error, "cannot signal");
    }
}

struct Stat {
    ended: bool,
    session: i32,
}

impl Stat {
    /// State and session from proc_pid_stat(5). The name in parentheses may hold anything, so the
    /// fields are counted from its last parenthesis.
    fn read(pid: Pid) -> Option<Self> {
        let text = read(&format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let fields = std::str::from_utf8(text.get(end + 2..)?).ok()?;
        let mut fields = fields.split(' ');
        let state = fields.next()?;
        let session = fields.nth(2)?.parse().ok()?;
        Some(Self { ended: matches!(state, "Z" | "X"), session })
    }
}

fn read(path: &str) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    fs::File::open(path).ok()?.take(PROC_READ_LIMIT).read_to_end(&mut content).ok()?;
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_of_one_command_does_not_match_another() {
        let tree = Tree { session: None, marker: b"WORKSPACE_EXEC_ID=b-1\0".to_vec() };
        assert!(tree.marks(b"WORKSPACE_EXEC_ID=b-1\0PATH=/bin\0"));
        assert!(!tree.marks(b"WORKSPACE_EXEC_ID=b-12\0"));
        assert!(!tree.marks(b"X=WORKSPACE_EXEC_ID=b-1\0"));
        assert!(Tree::of_all("b-").marks(b"A=1\0WORKSPACE_EXEC_ID=b-12\0"));
        assert!(!Tree::of_all("c-").marks(b"WORKSPACE_EXEC_ID=b-12\0"));
    }

    #[test]
    fn this_process_is_found_by_its_session() {
        let session = rustix::process::getsid(None).unwrap();
        let tree = Tree { session: Some(session), marker: b"none\0".to_vec() };
        assert!(tree.members().iter().any(|m| m.pid == rustix::process::getpid()));
    }
}
