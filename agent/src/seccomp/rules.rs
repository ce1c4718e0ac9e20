//! What commands may not ask the kernel for. Pure tables.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompRule,
};

/// Rules by the number of the system call; an empty list stands for the call whatever its arguments.
pub(super) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Refused whatever the arguments: other namespaces and mounts, programs inside the kernel, and the
/// kernel's keyrings, which know no network namespace.
const FORBIDDEN: [c_long; 16] = [
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_open_tree,
    OPEN_TREE_ATTR,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_bpf,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
];
/// Linux 6.15; the C library has no name for it yet. New calls have one number on all machines.
const OPEN_TREE_ATTR: c_long = 467;

/// Answered with ENOSYS, as if the kernel did not have them, so that programs take the older way: clone3 has its flags in
/// memory, where no filter can see them, and an io_uring opens sockets that no filter hears of.
pub(super) const ABSENT: [c_long; 2] = [libc::SYS_clone3, libc::SYS_io_uring_setup];

/// Flags of clone(2) and unshare(2) that make a namespace.
const NEW_NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// A namespace of clocks (unshare(2)); the C library has no name for it.
const NEW_TIME: libc::c_int = 0x80;

/// Families of sockets that programs need. All others are refused: packets off the wire, the
/// hypervisor's channel (vsock), the kernel's cryptography, and buses that no workspace has.
const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
/// The type that packet sockets had before they had a family (packet(7)).
const OLD_PACKET: libc::c_int = 10;
/// The bits of a socket's type that are no flags (socket(2)).
const TYPE_BITS: u64 = 0xf;

/// The calls that are answered with EPERM.
///
/// # Errors
/// Never, for these tables.
pub(super) fn forbidden() -> Result<Rules, BackendError> {
    let mut rules: Rules = FORBIDDEN.into_iter().map(|call| (call, Vec::new())).collect();
    let namespaces = NEW_NAMESPACES.into_iter().map(|flag| SeccompRule::new(vec![has(0, flag)?]));
    let namespaces = namespaces.collect::<Result<Vec<_>, _>>()?;
    rules.insert(libc::SYS_clone, namespaces.clone());
    let mut unshare = namespaces;
    // In clone(2) this bit belongs to a signal's number.
    unshare.push(SeccompRule::new(vec![has(0, NEW_TIME)?])?);
    rules.insert(libc::SYS_unshare, unshare);
    rules.insert(libc::SYS_socket, sockets()?);
    rules.insert(libc::SYS_socketpair, vec![other_families()?]);
    Ok(rules)
}

/// Other families, whatever writes or reads packets without a transport protocol, and netlink but
/// for the questions about interfaces and routes that getifaddrs(3) asks.
fn sockets() -> Result<Vec<SeccompRule>, BackendError> {
    let mut rules = vec![other_families()?];
    for family in [libc::AF_INET, libc::AF_INET6] {
        for kind in [libc::SOCK_RAW, OLD_PACKET] {
            rules.push(SeccompRule::new(vec![is(0, family)?, has_type(kind)?])?);
        }
    }
    rules.push(SeccompRule::new(vec![is(0, libc::AF_NETLINK)?, is_not(2, libc::NETLINK_ROUTE)?])?);
    Ok(rules)
}

fn other_families() -> Result<SeccompRule, BackendError> {
    let conditions = FAMILIES.into_iter().map(|family| is_not(0, family));
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

// The arguments are ints, of which the kernel reads the lower half of the register only.

fn is(argument: u8, value: libc::c_int) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, Dword, SeccompCmpOp::Eq, bits(value))
}

fn is_not(argument: u8, value: libc::c_int) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, Dword, SeccompCmpOp::Ne, bits(value))
}

fn has(argument: u8, flag: libc::c_int) -> Result<SeccompCondition, BackendError> {
    let flag = bits(flag);
    SeccompCondition::new(argument, Dword, SeccompCmpOp::MaskedEq(flag), flag)
}

fn has_type(kind: libc::c_int) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(1, Dword, SeccompCmpOp::MaskedEq(TYPE_BITS), bits(kind))
}

fn bits(value: libc::c_int) -> u64 {
    u64::from(value.cast_unsigned())
}
