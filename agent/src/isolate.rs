//! The private network namespace: before the runtime starts, the process leaves the pod's network
//! for one that holds nothing but `lo`. Sockets that were bound before keep working in the network
//! they were bound in; every command inherits the empty one.
//!
//! No privilege is needed: the network namespace comes with a user namespace of our own
//! (user_namespaces(7)), all of whose capabilities are given up again at once.

use std::{fmt, fs, io};

use rustix::{
    net::{AddressFamily, SocketType, socket},
    process::{DumpableBehavior, Gid, Uid, getgid, getuid, set_dumpable_behavior},
    thread::{
        CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities,
        set_no_new_privs,
    },
};

use crate::{kernel_file, sys};

/// The highest capability number to try to drop. The kernel answers EINVAL beyond its own last.
const LAST_CAPABILITY: u32 = 63;

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Wanted {
    /// Do not start without a private network namespace.
    Required,
    /// Make one where the kernel allows; otherwise go on and say so.
    Auto,
    /// Stay in the network that the container has.
    Off,
}

/// The network that commands are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// A namespace of our own with nothing but `lo`.
    Private,
    /// The container's network, which holds nothing but `lo`, as with `docker run --network none`.
    LoopbackOnly,
    /// The container's network, which leads further.
    Shared,
}

impl Network {
    /// The word for it in the API and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::LoopbackOnly => "loopback-only",
            Self::Shared => "shared",
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why no private network namespace could be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a private network namespace: {step} failed: {source}{}", hint(.source))]
pub struct IsolationError {
    step: &'static str,
    source: io::Error,
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            "; the seccomp profile must allow unshare(CLONE_NEWUSER|CLONE_NEWNET), and the node \
             must allow user namespaces (gVisor does by default)"
        }
        _ => "",
    }
}

/// Takes the process into the network that `wanted` asks for. Call it with one thread, after the
/// listeners are bound and before the forwards are.
///
/// # Errors
/// When a private namespace is required and cannot be had, or was entered half-way; then the
/// process must not go on.
pub fn enter(wanted: Wanted) -> Result<Network, IsolationError> {
    if wanted == Wanted::Off {
        return Ok(inherited());
    }
    if wanted == Wanted::Auto && user_namespaces_are_hollow() {
        tracing::warn!("AppArmor restricts user namespaces here: no private network namespace");
        return Ok(inherited());
    }
    // Afterwards the kernel shows the overflow ids until they are mapped.
    let ids = (getuid(), getgid());
    match sys::unshare_user_and_network() {
        Ok(()) => {}
        Err(source) if wanted == Wanted::Auto => {
            let network = inherited();
            if network == Network::Shared {
                tracing::warn!(%source, "no private network namespace: commands share the container's network");
            }
            return Ok(network);
        }
        Err(source) => return Err(IsolationError { step: "unshare", source }),
    }
    // From here on there is no way back: a failure ends the process, whatever was wanted.
    settle(ids)?;
    Ok(Network::Private)
}

/// Whether unshare(2) would succeed and leave us without the right to map our ids: Ubuntu's AppArmor
/// does that to unprivileged processes. There is no way back from there, so it is asked before.
fn user_namespaces_are_hollow() -> bool {
    let restricted = fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
    !getuid().is_root() && restricted.is_ok_and(|value| value.trim() == "1")
}

fn settle(ids: (Uid, Gid)) -> Result<(), IsolationError> {
    let step = |step| move |source: io::Error| IsolationError { step, source };
    map_ids(ids).map_err(step("mapping the user and group"))?;
    raise_loopback().map_err(step("raising lo"))?;
    drop_privileges().map_err(step("dropping capabilities"))
}

/// Maps our own ids onto themselves, the only mapping an unprivileged process may make.
fn map_ids((uid, gid): (Uid, Gid)) -> io::Result<()> {
    let (uid, gid) = (uid.as_raw(), gid.as_raw());
    kernel_file::write("/proc/self/uid_map", &format!("{uid} {uid} 1"))?;
    match kernel_file::write("/proc/self/setgroups", "deny") {
        // gVisor before 2026 has no such file and asks for none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other?,
    }
    kernel_file::write("/proc/self/gid_map", &format!("{gid} {gid} 1"))
}

fn raise_loopback() -> io::Result<()> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    match sys::raise_loopback(std::os::fd::AsFd::as_fd(&socket)) {
        // gVisor: lo is up from the start and has no such request.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOTTY.raw_os_error()) => {
            Ok(())
        }
        other => other,
    }
}

/// Keeps commands of our own user from our memory, our descriptors and our token: not traceable, not
/// readable through /proc (prctl(2), PR_SET_DUMPABLE); and nobody here gains privileges by a set-id
/// file (PR_SET_NO_NEW_PRIVS). A program that is started becomes dumpable again by itself.
///
/// # Errors
/// When the kernel refuses.
pub fn harden() -> io::Result<()> {
    set_no_new_privs(true)?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Gives up everything that the new user namespace gave us, for us and for every command.
fn drop_privileges() -> io::Result<()> {
    for number in 0..=LAST_CAPABILITY {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match remove_capability_from_bounding_set(capability) {
            Err(rustix::io::Errno::INVAL) => break,
            other => other?,
        }
    }
    // The ambient set goes with these (capabilities(7)); gVisor has no call for it.
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    Ok(set_capabilities(None, sets)?)
}

/// What the network we were started in holds. A namespace that cannot be read counts as shared.
fn inherited() -> Network {
    let Ok(interfaces) = fs::read_dir("/sys/class/net") else { return Network::Shared };
    let leads_nowhere = interfaces
        .flatten()
        .all(|interface| leads_nowhere(&interface.file_name().to_string_lossy()));
    if leads_nowhere { Network::LoopbackOnly } else { Network::Shared }
}

/// `lo`, or an interface that is down: kernels put unused tunnel devices into every namespace.
fn leads_nowhere(interface: &str) -> bool {
    const IFF_UP: u32 = 1;
    if interface == "lo" {
        return true;
    }
    let flags = fs::read_to_string(format!("/sys/class/net/{interface}/flags"));
    flags
        .ok()
        .and_then(|text| u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok())
        .is_some_and(|flags| flags & IFF_UP == 0)
}
