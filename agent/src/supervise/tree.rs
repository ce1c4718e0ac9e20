//! Everything that a command has started: found through /proc by session, by a marker in the
//! environment and by parentage, so that children which forked twice, called setsid(2), changed
//! their group or cleared their environment are found too; and ended, TERM first, KILL after a
//! grace, until nobody is left. Where there is a cgroup, it is asked and used, too.
//!
//! A process that did all of it, setsid(2), a cleared environment and a parent that has gone, before
//! anybody looked, is found if its command is [`Alone`]. What this cannot find is one of two commands at
//! once: it ends with the agent ([`Tree::of_all`]).

use std::{
    collections::HashSet,
    fs,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group};

use super::{
    alone::Alone,
    cgroup::Group,
    proc::{self, GLANCE, Identity, Process, WHOLE},
};

/// Environment variable that marks a command's processes with its id.
pub const MARKER: &str = "WORKSPACE_EXEC_ID";
/// How often the remains of a tree are looked for while it ends.
const SWEEP_INTERVAL: Duration = Duration::from_millis(20);
/// Nobody is left when so many looks in a row have found nobody: a process that is just becoming
/// another program shows no environment for a moment, and may be the child of a dead one.
const EMPTY_PASSES: u32 = 2;
/// After KILL, how long to go on before the survivors are named: only a process stuck in the
/// kernel takes longer.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Members that were found before.
type Known = HashSet<Identity>;

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
    alone: Alone,
    bonds: Arc<Mutex<Bonds>>,
}

/// What holds a tree together besides its marker, as far as it is known.
#[derive(Debug, Default)]
struct Bonds {
    group: Option<Group>,
    /// Members that were found once. A daemon may leave the session, lose its parent and write over
    /// its environment, so who was a member stays one.
    known: Known,
    /// The session's number was given to another command: it says nothing any more.
    session_lost: bool,
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
    pub fn of_command(session: Pid, id: &str, group: Option<Group>, alone: Alone) -> Self {
        let leader = Process::read(session);
        let leader = leader.map_or(Leader::Gone, |process| Leader::Started(process.started));
        let marker = format!("{MARKER}={id}\0").into_bytes();
        let bonds = Arc::new(Mutex::new(Bonds { group, ..Bonds::default() }));
        Self { session: Some(session), leader: Some(leader), marker, alone, bonds }
    }

    /// The trees of all commands whose ids begin with `prefix`, and whatever else is a child of this
    /// process.
    pub fn of_all(prefix: &str) -> Self {
        let marker = format!("{MARKER}={prefix}").into_bytes();
        Self { session: None, leader: None, marker, alone: Alone::default(), bonds: Arc::default() }
    }

    fn bonds(&self) -> MutexGuard<'_, Bonds> {
        // No code that holds the lock can leave the bonds half-changed.
        self.bonds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the leader has ended and nothing else is there.
    pub fn note_nothing_left(&self) {
        self.alone.note_nothing_left();
    }

    /// Gives the cgroup back: nobody is left in it.
    pub fn release_group(&self) {
        self.bonds().group.take();
    }

    /// Notes that another command leads a session of this number: whoever is in it is the other's.
    pub fn forget_session(&self) {
        self.bonds().session_lost = true;
    }

    /// How many members are alive, by a look that must not take long.
    pub async fn count(&self) -> usize {
        self.pass(None, GLANCE).await.len()
    }

    /// The members that are alive, of whose environments so much is read. They are remembered: a
    /// child that has cleared its environment is found by its parent, which may be gone the next time.
    fn members(&self, environment: u64) -> Vec<Process> {
        let processes = proc::all();
        // The agent starts nothing but commands, so every child of its own belongs to one.
        let has_children = self.session.is_none() || self.alone.holds();
        let mut bonds = self.bonds();
        let session = self
            .session
            .filter(|session| !bonds.session_lost && self.still_leads(*session, &processes));
        let grouped = bonds.group.as_ref().map(Group::members).unwrap_or_default();
        let claims = |process: &&Process| {
            let leads = session.is_some() && process.session == session;
            leads
                || grouped.contains(&process.pid)
                || bonds.known.contains(&process.identity())
                || (has_children && process.parent == Some(getpid()))
                || self.has_marked(process, environment)
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
        let members: Vec<_> =
            processes.into_iter().filter(|process| tree.contains(&process.pid)).collect();
        bonds.known = members.iter().map(Process::identity).collect();
        members
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

    fn has_marked(&self, process: &Process, environment: u64) -> bool {
        process.environment(environment).is_some_and(|text| self.marks(&text))
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

    /// Signals every member and gives them. The group is signalled as a whole as long as one member
    /// holds its number, so that a fork between two signals slips through nothing, and a number that
    /// was given away is never signalled.
    fn signal_members(&self, signal: Signal) -> Vec<Process> {
        let members = self.members(WHOLE);
        if let Some(session) = self.session
            && members.iter().any(|member| self.leads(member))
        {
            ignore_gone(kill_process_group(session, signal));
        }
        for member in &members {
            ignore_gone(kill_process(member.pid, signal));
        }
        members
    }

    /// Signals every member once and says how many there were.
    pub async fn signal(&self, signal: Signal) -> usize {
        self.pass(Some(signal), WHOLE).await.len()
    }

    /// Ends the whole tree: TERM, then KILL when `patience` resolves, and again until nobody is left.
    /// Survivors are those that the kernel cannot end.
    pub async fn end(&self, patience: impl Future<Output = ()>) -> Sweep {
        let mut seen = Known::new();
        if note(&self.pass(Some(Signal::TERM), WHOLE).await, &mut seen) == 0 {
            return Sweep::default();
        }
        let mut patience = pin!(patience);
        let mut empty = 0;
        while empty < EMPTY_PASSES {
            tokio::select! {
                () = patience.as_mut() => return self.kill(seen).await,
                () = tokio::time::sleep(SWEEP_INTERVAL) => {}
            }
            let left = note(&self.pass(None, WHOLE).await, &mut seen);
            empty = if left == 0 { empty + 1 } else { 0 };
        }
        Sweep { killed: seen.len(), survivors: Vec::new() }
    }

    async fn kill(&self, mut seen: Known) -> Sweep {
        let deadline = Instant::now() + KILL_PATIENCE;
        let mut empty = 0;
        loop {
            self.freeze(&mut seen, deadline).await;
            if let Some(group) = self.bonds().group.clone() {
                group.kill();
            }
            let members = self.pass(Some(Signal::KILL), WHOLE).await;
            empty = if note(&members, &mut seen) == 0 { empty + 1 } else { 0 };
            if empty == EMPTY_PASSES || Instant::now() >= deadline {
                let survivors: Vec<_> = members.into_iter().map(Process::survivor).collect();
                return Sweep { killed: seen.len().saturating_sub(survivors.len()), survivors };
            }
            tokio::time::sleep(SWEEP_INTERVAL).await;
        }
    }

    /// Stops every member until no new one appears: what is stopped does not fork, whereas each one
    /// killed makes room for another under a limit on processes.
    async fn freeze(&self, seen: &mut Known, deadline: Instant) {
        for pass in 0.. {
            let before = seen.len();
            note(&self.pass(Some(Signal::STOP), WHOLE).await, seen);
            let newcomers = seen.len() > before;
            if (pass > 0 && !newcomers) || Instant::now() >= deadline {
                return;
            }
        }
    }

    /// One look at all processes, away from the threads that serve: it takes milliseconds where there
    /// are many. Signals the members, if a signal is given, and gives them.
    async fn pass(&self, signal: Option<Signal>, environment: u64) -> Vec<Process> {
        let tree = self.clone();
        let look = tokio::task::spawn_blocking(move || match signal {
            Some(signal) => tree.signal_members(signal),
            None => tree.members(environment),
        });
        // It ends early only with the runtime, and with that everything.
        look.await.unwrap_or_default()
    }
}

/// Remembers members for the count of a whole end, and says how many there are now.
fn note(members: &[Process], seen: &mut Known) -> usize {
    seen.extend(members.iter().map(Process::identity));
    members.len()
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

#[cfg(test)]
mod tests {
    use super::{
        super::spawn::{CommandSpec, Stdio, spawn},
        *,
    };

    #[test]
    fn the_marker_of_one_command_does_not_match_another() {
        let marker = b"WORKSPACE_EXEC_ID=b-1\0".to_vec();
        let tree = Tree { marker, ..Tree::of_all("") };
        assert!(tree.marks(b"WORKSPACE_EXEC_ID=b-1\0PATH=/bin\0"));
        assert!(!tree.marks(b"WORKSPACE_EXEC_ID=b-12\0"));
        assert!(!tree.marks(b"X=WORKSPACE_EXEC_ID=b-1\0"));
        assert!(Tree::of_all("b-").marks(b"A=1\0WORKSPACE_EXEC_ID=b-12\0"));
        assert!(!Tree::of_all("c-").marks(b"WORKSPACE_EXEC_ID=b-12\0"));
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
            let bonds = Arc::default();
            Tree { session: Some(one), leader, bonds, ..Tree::of_all("") }
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
        let found = Tree::of_command(process.pid, "x", None, Alone::default()).members(WHOLE);
        assert_eq!(found.iter().map(|member| member.pid).collect::<Vec<_>>(), [process.pid]);
    }
}
