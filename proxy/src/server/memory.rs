//! The memory of this process holds the credentials of others. Nobody is to find it on a disk, or to
//! read it from beside.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Turns core dumps off, and keeps processes of the same user from reading this one's memory and
/// environment. Where the kernel refuses, a warning says so.
pub fn keep_private() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "cannot turn core dumps off");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "cannot close this process's memory to others of its user");
    }
}
