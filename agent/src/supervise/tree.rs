//! Everything that a command has started: found through /proc by session, by a marker in the
//! environment and by parentage, so that children which forked twice, called setsid(2), changed
//! their group or cleared their environment are found too; and ended, TERM first, KILL after a
//! grace, until nobody is left.
//!
//! What this cannot find: a process that did all of it, setsid(2), a cleared environment and a
//! parent that has gone, before anybody looked. It ends with the agent ([`Tree::of_all`]).

use std::{
    collections::HashSet,
    fs,
    io::Read,
    pin::pin,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group};

/// Environment variable that marks a command's processes with its id.
pub const MARKER: &str = "WORKSPACE_EXEC_ID";
/// How often the remains of a tree are looked for while it ends.
const SWEEP_INTERVAL: Duration = Duration::from_millis(20);
/// After KILL, how long to go on before the survivors are named: only a process stuck in the
/// kernel takes longer.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// As much of a file in /proc as is read. A shell passes its environment on in an order of its own,
/// so the marker may be anywhere in it; the kernel takes 6 MiB at most (execve(2)).
const PROC_READ_LIMIT: u64 = 6 << 20;

/// Members that were found before: process ids, with the times they started, which tell them from
/// successors of the same number.
type Known = HashSet<(Pid, u64)>;

/// Whether an entry of an environment sets the marker.
pub fn is_marker(entry: &[u8]) -> bool {
    entry.strip_prefix(MARKER.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
}

/// The processes of one command, or of all commands of this agent.
#[derive(Debug, Clone)]
pub struct Tree {
    session: Option<Pid>,
    /// When the leader of the session started, if the tree may outlive it: its number may then be
    /// given to another.
    leader: Option<Leader>,
    marker: Vec<u8>,
}

/// What tells the leader of a session from a later process of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leader {
    /// It started at this time, in clock ticks since the machine did.
    Started(u64),
    /// It had ended before anybody looked: whoever has its number is another.
    Gone,
}

/// What came of ending a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Processes that were alive and are gone.
    pub killed: usize,
    /// Processes that the kernel could not end.
    pub survivors: usize,
}

impl Tree {
    /// The tree of the command that leads `session` and whose processes carry `id`.
    pub fn of_command(session: Pid, id: &str) -> Self {
        let marker = format!("{MARKER}={id}\0").into_bytes();
        Self { session: Some(session), leader: None, marker }
    }

    /// The same for a tree that is asked for after its leader has ended, too. Call it right after the
    /// leader's start.
    pub fn outliving(session: Pid, id: &str) -> Self {
        let leader = Process::read(session);
        let leader = leader.map_or(Leader::Gone, |process| Leader::Started(process.started));
        Self { leader: Some(leader), ..Self::of_command(session, id) }
    }

    /// The trees of all commands whose ids begin with `prefix`, and whatever else is a child of this
    /// process.
    pub fn of_all(prefix: &str) -> Self {
        let marker = format!("{MARKER}={prefix}").into_bytes();
        Self { session: None, leader: None, marker }
    }

    /// How many members are alive. A process that cannot be read has gone or is somebody else's.
    pub fn count(&self) -> usize {
        self.members(&mut Known::new()).len()
    }

    /// The members that are alive. Those in `known` count, and the others are added to it: a child
    /// that has cleared its environment is found by its parent, which may be gone the next time.
    fn members(&self, known: &mut Known) -> Vec<Process> {
        let processes = all_processes();
        let session = self.session.filter(|session| self.still_leads(*session, &processes));
        let claims = |process: &&Process| {
            let leads = session.is_some() && process.session == session;
            leads || self.claims(process, known)
        };
        let claimed = processes.iter().filter(claims);
        let mut tree: HashSet<Pid> = claimed.map(|process| process.pid).collect();
        let mut size = 0;
        while size < tree.len() {
            size = tree.len();
            for process in &processes {
                if process.parent.is_some_and(|parent| tree.contains(&parent)) {
                    tree.insert(process.pid);
                }
            }
        }
        let members = processes.into_iter().filter(|process| tree.contains(&process.pid));
        members.inspect(|member| _ = known.insert(member.identity())).collect()
    }

    /// Whether the session is the command's still: the kernel gives its number to nobody as long as
    /// it has a member, so it is not when another process bears it.
    fn still_leads(&self, session: Pid, processes: &[Process]) -> bool {
        let bearer = processes.iter().find(|process| process.pid == session);
        match (self.leader, bearer) {
            (None, _) | (_, None) => true,
            (Some(leader), Some(bearer)) => leader == Leader::Started(bearer.started),
        }
    }

    /// Whether a process is a member by what can be seen of it alone, its session apart.
    fn claims(&self, process: &Process, known: &Known) -> bool {
        let marked = || {
            let environ = read(&format!("/proc/{}/environ", process.pid.as_raw_nonzero()));
            environ.is_some_and(|environ| self.marks(&environ))
        };
        // The agent starts nothing but commands, so every child of its own belongs to one.
        let ours = self.session.is_none() && process.parent == Some(getpid());
        ours || known.contains(&process.identity()) || marked()
    }

    fn leads(&self, process: &Process) -> bool {
        self.session.is_some_and(|session| process.session == Some(session))
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
    fn signal_members(&self, signal: Signal, known: &mut Known) -> usize {
        let members = self.members(known);
        if let Some(session) = self.session
            && members.iter().any(|member| self.leads(member))
        {
            ignore_gone(kill_process_group(session, signal));
        }
        for member in &members {
            ignore_gone(kill_process(member.pid, signal));
        }
        members.len()
    }

    /// Signals every member once and says how many there were.
    pub fn signal(&self, signal: Signal) -> usize {
        self.signal_members(signal, &mut Known::new())
    }

    /// Ends the whole tree: TERM, then KILL when `patience` resolves, and again until nobody is left.
    /// Survivors are those that the kernel cannot end.
    pub async fn end(&self, patience: impl Future<Output = ()>) -> Sweep {
        let mut known = Known::new();
        if self.signal_members(Signal::TERM, &mut known) == 0 {
            return Sweep::default();
        }
        let mut patience = pin!(patience);
        while !self.members(&mut known).is_empty() {
            tokio::select! {
                () = patience.as_mut() => return self.kill(&mut known).await,
                () = tokio::time::sleep(SWEEP_INTERVAL) => {}
            }
        }
        Sweep { killed: known.len(), survivors: 0 }
    }

    async fn kill(&self, known: &mut Known) -> Sweep {
        let deadline = Instant::now() + KILL_PATIENCE;
        loop {
            let survivors = self.signal_members(Signal::KILL, known);
            if survivors == 0 || Instant::now() >= deadline {
                return Sweep { killed: known.len() - survivors, survivors };
            }
            tokio::time::sleep(SWEEP_INTERVAL).await;
        }
    }
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

/// A process that is alive.
#[derive(Debug)]
struct Process {
    pid: Pid,
    parent: Option<Pid>,
    session: Option<Pid>,
    /// In clock ticks since the machine started.
    started: u64,
}

fn all_processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Process::read(Pid::from_raw(pid)?))
        .collect()
}

impl Process {
    /// What proc_pid_stat(5) says, unless the process has ended. The name in parentheses may hold
    /// anything, so the fields are counted from its last parenthesis.
    fn read(pid: Pid) -> Option<Self> {
        let text = read(&format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let fields = std::str::from_utf8(text.get(end + 2..)?).ok()?;
        let mut fields = fields.split(' ');
        let state = fields.next()?;
        let parent = pid_or_none(fields.next()?);
        let session = pid_or_none(fields.nth(1)?);
        let started = fields.nth(15)?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(Self { pid, parent, session, started })
    }

    fn identity(&self) -> (Pid, u64) {
        (self.pid, self.started)
    }
}

/// Zero is a process of another namespace; a process that is being collected at this moment has the
/// session -1, which is no process id.
fn pid_or_none(field: &str) -> Option<Pid> {
    field.parse().ok().filter(|pid| *pid > 0).and_then(Pid::from_raw)
}

fn read(path: &str) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    fs::File::open(path).ok()?.take(PROC_READ_LIMIT).read_to_end(&mut content).ok()?;
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::{
        super::spawn::{CommandSpec, spawn},
        *,
    };

    #[test]
    fn the_marker_of_one_command_does_not_match_another() {
        let tree =
            Tree { session: None, leader: None, marker: b"WORKSPACE_EXEC_ID=b-1\0".to_vec() };
        assert!(tree.marks(b"WORKSPACE_EXEC_ID=b-1\0PATH=/bin\0"));
        assert!(!tree.marks(b"WORKSPACE_EXEC_ID=b-12\0"));
        assert!(!tree.marks(b"X=WORKSPACE_EXEC_ID=b-1\0"));
        assert!(Tree::of_all("b-").marks(b"A=1\0WORKSPACE_EXEC_ID=b-12\0"));
        assert!(!Tree::of_all("c-").marks(b"WORKSPACE_EXEC_ID=b-12\0"));
    }

    #[test]
    fn fields_of_a_process_that_is_going_are_no_process_ids() {
        assert_eq!(pid_or_none("-1"), None);
        assert_eq!(pid_or_none("0"), None);
        assert_eq!(pid_or_none("7"), Pid::from_raw(7));
    }

    #[test]
    fn a_session_whose_number_was_given_away_is_not_signalled() {
        let [one, two] = [1, 2].map(|pid| Pid::from_raw(pid).unwrap());
        let process = |pid, started| Process { pid, parent: None, session: Some(one), started };
        let tree = |leader| Tree { session: Some(one), leader, marker: Vec::new() };
        let child = process(two, 9);
        for (leader, bearer, ours) in [
            (Some(Leader::Started(7)), Some(7), true),
            (Some(Leader::Started(7)), Some(8), false),
            (Some(Leader::Started(7)), None, true),
            (Some(Leader::Gone), Some(7), false),
            (Some(Leader::Gone), None, true),
            (None, Some(8), true),
        ] {
            let bearer = bearer.map(|started| process(one, started));
            let processes: Vec<Process> =
                bearer.into_iter().chain([process(child.pid, child.started)]).collect();
            assert_eq!(tree(leader).still_leads(one, &processes), ours, "{leader:?}");
        }
    }

    #[test]
    fn a_process_that_carries_no_marker_is_found_by_its_session() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let _inside = runtime.enter();
        let spec = CommandSpec {
            argv: vec![c"/bin/cat".to_owned()],
            cwd: "/".into(),
            env: Vec::new(),
            pipe_stdin: true,
        };
        let process = spawn(&spec).unwrap();
        let found = Tree::of_command(process.pid, "x").members(&mut Known::new());
        assert_eq!(found.iter().map(|member| member.pid).collect::<Vec<_>>(), [process.pid]);
    }
}
