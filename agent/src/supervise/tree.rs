//! Everything that a command has started: found through /proc by session, by a marker in the
//! environment and by parentage, so that children which forked twice, called setsid(2), changed
//! their group or cleared their environment are found too; and ended, TERM first, KILL after a
//! grace, until nobody is left. Where there is a cgroup, it is asked and used, too.
//!
//! What this cannot find: a process that did all of it, setsid(2), a cleared environment and a
//! parent that has gone, before anybody looked. It ends with the agent ([`Tree::of_all`]).

use std::{
    collections::HashSet,
    fs,
    io::Read,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group};

use super::cgroup::Group;

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
    group: Arc<Mutex<Option<Group>>>,
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Processes that were alive and are gone.
    pub killed: usize,
    /// Processes that the kernel could not end.
    pub survivors: Vec<Survivor>,
}

/// A process that lives on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivor {
    /// Its process id.
    pub pid: i32,
    /// Its name, as proc_pid_comm(5) has it.
    pub name: String,
}

impl Tree {
    /// The tree of the command that leads `session` and whose processes carry `id`; of its cgroup,
    /// too, if it has one. Call it right after the leader's start: it tells the session from a later
    /// one of the same number.
    pub fn of_command(session: Pid, id: &str, group: Option<Group>) -> Self {
        let leader = Process::read(session);
        let leader = leader.map_or(Leader::Gone, |process| Leader::Started(process.started));
        let marker = format!("{MARKER}={id}\0").into_bytes();
        let group = Arc::new(Mutex::new(group));
        Self { session: Some(session), leader: Some(leader), marker, group }
    }

    /// The trees of all commands whose ids begin with `prefix`, and whatever else is a child of this
    /// process.
    pub fn of_all(prefix: &str) -> Self {
        let marker = format!("{MARKER}={prefix}").into_bytes();
        Self { session: None, leader: None, marker, group: Arc::default() }
    }

    fn group(&self) -> Option<Group> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives the cgroup back: nobody is left in it.
    pub fn release_group(&self) {
        self.group.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// How many members are alive. A process that cannot be read has gone or is somebody else's.
    pub async fn count(&self) -> usize {
        self.pass(None, Known::new()).await.0
    }

    /// The members that are alive. Those in `known` count, and the others are added to it: a child
    /// that has cleared its environment is found by its parent, which may be gone the next time.
    fn members(&self, known: &mut Known) -> Vec<Process> {
        let processes = all_processes();
        let session = self.session.filter(|session| self.still_leads(*session, &processes));
        let grouped = self.group().as_ref().map(Group::members).unwrap_or_default();
        let claims = |process: &&Process| {
            let leads = session.is_some() && process.session == session;
            leads || grouped.contains(&process.pid) || self.claims(process, known)
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
    pub async fn signal(&self, signal: Signal) -> usize {
        self.pass(Some(signal), Known::new()).await.0
    }

    /// Ends the whole tree: TERM, then KILL when `patience` resolves, and again until nobody is left.
    /// Survivors are those that the kernel cannot end.
    pub async fn end(&self, patience: impl Future<Output = ()>) -> Sweep {
        let (mut count, mut known) = self.pass(Some(Signal::TERM), Known::new()).await;
        let mut patience = pin!(patience);
        while count > 0 {
            tokio::select! {
                () = patience.as_mut() => return self.kill(known).await,
                () = tokio::time::sleep(SWEEP_INTERVAL) => {}
            }
            (count, known) = self.pass(None, known).await;
        }
        Sweep { killed: known.len(), survivors: Vec::new() }
    }

    async fn kill(&self, mut known: Known) -> Sweep {
        let deadline = Instant::now() + KILL_PATIENCE;
        let mut count;
        loop {
            known = self.freeze(known, deadline).await;
            if let Some(group) = self.group() {
                group.kill();
            }
            (count, known) = self.pass(Some(Signal::KILL), known).await;
            if count == 0 || Instant::now() >= deadline {
                break;
            }
            tokio::time::sleep(SWEEP_INTERVAL).await;
        }
        let survivors: Vec<_> = if count == 0 { Vec::new() } else { self.survivors(&known) };
        Sweep { killed: known.len().saturating_sub(survivors.len()), survivors }
    }

    /// Stops every member until no new one appears: what is stopped does not fork, whereas each one
    /// killed makes room for another under a limit on processes.
    async fn freeze(&self, mut known: Known, deadline: Instant) -> Known {
        for pass in 0.. {
            let before = known.len();
            (_, known) = self.pass(Some(Signal::STOP), known).await;
            let newcomers = known.len() > before;
            if (pass > 0 && !newcomers) || Instant::now() >= deadline {
                break;
            }
        }
        known
    }

    /// One look at all processes, away from the threads that serve: it takes milliseconds where there
    /// are many. Signals the members, if a signal is given, and says how many there were.
    async fn pass(&self, signal: Option<Signal>, mut known: Known) -> (usize, Known) {
        let tree = self.clone();
        let look = tokio::task::spawn_blocking(move || {
            let count = match signal {
                Some(signal) => tree.signal_members(signal, &mut known),
                None => tree.members(&mut known).len(),
            };
            (count, known)
        });
        // It ends early only with the runtime, and with that everything.
        look.await.unwrap_or_default()
    }

    fn survivors(&self, known: &Known) -> Vec<Survivor> {
        self.members(&mut known.clone()).into_iter().map(Process::survivor).collect()
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
    name: String,
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
        let begin = text.iter().position(|byte| *byte == b'(')?;
        let name = String::from_utf8_lossy(text.get(begin + 1..end)?).into_owned();
        let fields = std::str::from_utf8(text.get(end + 2..)?).ok()?;
        let mut fields = fields.split(' ');
        let state = fields.next()?;
        let parent = pid_or_none(fields.next()?);
        let session = pid_or_none(fields.nth(1)?);
        let started = fields.nth(15)?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(Self { pid, name, parent, session, started })
    }

    fn identity(&self) -> (Pid, u64) {
        (self.pid, self.started)
    }

    fn survivor(self) -> Survivor {
        Survivor { pid: self.pid.as_raw_nonzero().get(), name: self.name }
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
        super::spawn::{CommandSpec, Stdio, spawn},
        *,
    };

    #[test]
    fn the_marker_of_one_command_does_not_match_another() {
        let marker = b"WORKSPACE_EXEC_ID=b-1\0".to_vec();
        let tree = Tree { session: None, leader: None, marker, group: Arc::default() };
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
        let process = |pid, started| Process {
            pid,
            name: String::new(),
            parent: None,
            session: Some(one),
            started,
        };
        let tree = |leader| {
            let group = Arc::default();
            Tree { session: Some(one), leader, marker: Vec::new(), group }
        };
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
            ..CommandSpec::default()
        };
        let spec = CommandSpec { stdio: Stdio::Pipes { stdin: true }, ..spec };
        let process = spawn(&spec, None).unwrap();
        let found = Tree::of_command(process.pid, "x", None).members(&mut Known::new());
        assert_eq!(found.iter().map(|member| member.pid).collect::<Vec<_>>(), [process.pid]);
    }
}
