//! Control groups (cgroups(7), version 2), where the container lets the agent make some: each command
//! gets one, so that the kernel itself ends the whole of it (`cgroup.kill`), and limits hold for the
//! whole tree. Without them everything else works the same; most containers mount them read-only.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::{
    fs::{FlockOperation, flock},
    process::Pid,
};

use super::limits::Limits;
use crate::kernel_file;

/// Where mounts are listed (proc_pid_mountinfo(5)).
const MOUNTS: &str = "/proc/self/mountinfo";
/// Where a process finds its groups.
const OWN_GROUPS: &str = "/proc/self/cgroup";
/// What the agent's own directories are called, before its name.
const PREFIX: &str = "workspace-";

/// The directory that holds the commands' groups. It goes with the last handle.
#[derive(Debug, Clone)]
pub struct Cgroups(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    /// Held as long as the agent lives: without it the directory is a leaving.
    _lock: fs::File,
    /// Empty groups without limits, ready for the next command: making one costs more than joining.
    idle: Mutex<Vec<PathBuf>>,
    /// Groups that had members when they were given back. They go when those have.
    left: Mutex<Vec<PathBuf>>,
    next: std::sync::atomic::AtomicU64,
}

/// The group of one command. It is removed, or kept for another, when the last handle goes.
#[derive(Debug, Clone)]
pub struct Group(Arc<Held>);

#[derive(Debug)]
struct Held {
    path: PathBuf,
    limited: bool,
    owner: Cgroups,
}

impl Cgroups {
    /// Makes a place for the groups of the agent called `name`, below its own group.
    ///
    /// # Errors
    /// When there is no version 2 hierarchy, or it may not be written.
    pub fn claim(name: &str) -> io::Result<Self> {
        let own = own_group()?;
        remove_leavings(&own);
        let directory = own.join(format!("{PREFIX}{name}"));
        fs::create_dir(&directory)?;
        let lock = fs::File::open(&directory)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        let shared = Shared {
            directory,
            _lock: lock,
            idle: Mutex::default(),
            left: Mutex::default(),
            next: 0.into(),
        };
        let cgroups = Self(Arc::new(shared));
        cgroups.enable_controllers(&own);
        Ok(cgroups)
    }

    /// The directory that holds the groups.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// Lets the commands' groups have limits, where the hierarchy has the controllers and no process
    /// of the agent's group stands in the way.
    fn enable_controllers(&self, own: &Path) {
        for group in [own, &self.0.directory] {
            for controller in ["+pids", "+memory"] {
                let enabled = kernel_file::write(group.join("cgroup.subtree_control"), controller);
                tracing::debug!(group = %group.display(), controller, ?enabled, "cgroup controller");
            }
        }
    }

    /// A group for a command, with whatever of its limits the kernel takes.
    ///
    /// # Errors
    /// When none can be made.
    pub fn group(&self, limits: &Limits) -> io::Result<(Group, Holds)> {
        self.remove_left();
        let limited = limits.want_cgroup();
        let idle = || self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let path = match idle().filter(|_| !limited) {
            Some(path) => path,
            None => self.make()?,
        };
        let group = Group(Arc::new(Held { path, limited, owner: self.clone() }));
        let set = |file: &str, value: Option<u64>| {
            value.is_some_and(|value| group.write(file, &value.to_string()).is_ok())
        };
        let pids = set("pids.max", limits.pids);
        let memory = set("memory.max", limits.memory_bytes);
        if memory {
            // Otherwise the limit only moves the excess to disk.
            set("memory.swap.max", Some(0));
        }
        Ok((group, Holds { pids, memory }))
    }

    fn remove_left(&self) {
        let mut left = self.0.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|path| !remove_group(path));
    }

    fn make(&self) -> io::Result<PathBuf> {
        let number = self.0.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = self.0.directory.join(number.to_string());
        fs::create_dir(&path)?;
        Ok(path)
    }
}

/// Which limits a group holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holds {
    /// The number of processes.
    pub pids: bool,
    /// The memory.
    pub memory: bool,
}

impl Drop for Shared {
    fn drop(&mut self) {
        remove_group(&self.directory);
    }
}

impl Group {
    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Takes a process in; what that starts from now on is in it, too.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn add(&self, pid: Pid) -> io::Result<()> {
        self.write("cgroup.procs", &pid.as_raw_nonzero().to_string())
    }

    /// Its members.
    pub fn members(&self) -> Vec<Pid> {
        let text = fs::read_to_string(self.0.path.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect()
    }

    /// Sends KILL to all members at once, forks in progress included. A kernel before 5.14 cannot.
    pub fn kill(&self) {
        if let Err(error) = self.write("cgroup.kill", "1") {
            tracing::debug!(%error, "cannot kill by cgroup");
        }
    }

    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        kernel_file::write(self.0.path.join(file), value)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // What a command has left running stays where it is, and the directory with it.
        let events = fs::read_to_string(self.path.join("cgroup.events")).unwrap_or_default();
        let empty = events.lines().any(|line| line == "populated 0");
        if empty && !self.limited {
            let mut idle = self.owner.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(std::mem::take(&mut self.path));
        } else if !remove_group(&self.path) {
            let mut left = self.owner.0.left.lock().unwrap_or_else(PoisonError::into_inner);
            left.push(std::mem::take(&mut self.path));
        }
    }
}

/// The agent's own group: the one line of version 2 in its list, below the mount of version 2.
fn own_group() -> io::Result<PathBuf> {
    let none = || io::Error::new(io::ErrorKind::NotFound, "no cgroup version 2 is mounted");
    let mounts = fs::read_to_string(MOUNTS)?;
    let (root, mount) = mounts.lines().find_map(version_2_mount).ok_or_else(none)?;
    let groups = fs::read_to_string(OWN_GROUPS)?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::")).ok_or_else(none)?;
    // A container may see only a part of the hierarchy.
    let below = Path::new(own).strip_prefix(root).unwrap_or_else(|_other| Path::new(""));
    Ok(Path::new(mount).join(below))
}

/// Root and mount point, if the line is a mount of version 2.
fn version_2_mount(line: &str) -> Option<(&str, &str)> {
    let (mount, source) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    source.starts_with("cgroup2 ").then_some((fields.next()?, fields.next()?))
}

/// Removes what agents that were killed have left, as far as nobody lives in it.
fn remove_leavings(own: &Path) {
    for entry in fs::read_dir(own).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        let Some(directory) = ours.then(|| fs::File::open(entry.path()).ok()).flatten() else {
            continue;
        };
        if flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok() {
            remove_group(&entry.path());
        }
    }
}

/// Removes an empty group and the empty ones in it; the kernel refuses any other. Says whether it has
/// gone.
fn remove_group(path: &Path) -> bool {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path());
        }
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::debug!(path = %path.display(), %error, "a cgroup stays");
            false
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_version_2_is_found_among_others() {
        let one = "31 24 0:27 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids";
        let two = "32 24 0:28 /docker/ab /sys/fs/cgroup ro,nosuid shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(version_2_mount(one), None);
        assert_eq!(version_2_mount(two), Some(("/docker/ab", "/sys/fs/cgroup")));
    }
}
