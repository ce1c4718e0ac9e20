//! Ways through the kernel: tracing, namespaces, mounts.

use std::fs::File;

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::ptrace,
    unistd::Pid,
};

use crate::{Attempt, Attempts, files::agent, reason};

/// In this order, because a namespace that was entered stays.
pub(crate) const ATTEMPTS: Attempts = &[
    ("ptrace_agent", || done(ptrace::attach(Pid::from_raw(agent().cast_signed())))),
    ("setns_agent", || enter("net")),
    ("setns_agent_user", || enter("user")),
    ("mount", || done(mount(None::<&str>, "/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>))),
    ("new_network_namespace", || done(unshare(CloneFlags::CLONE_NEWNET))),
    ("new_user_namespace", || done(unshare(CloneFlags::CLONE_NEWUSER))),
    ("mount_as_new_root", || {
        done(mount(None::<&str>, "/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>))
    }),
];

fn done(result: nix::Result<()>) -> Attempt {
    result.map(|()| "done".to_owned()).map_err(|errno| errno.to_string())
}

fn enter(kind: &str) -> Attempt {
    let path = format!("/proc/{}/ns/{kind}", agent());
    let namespace = File::open(path).map_err(|e| reason(&e))?;
    done(setns(namespace, CloneFlags::empty()))
}
