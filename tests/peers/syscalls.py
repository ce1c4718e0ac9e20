"""Tries system calls one by one, each in a process of its own, and prints what came of it.

A line is "KIND NAME: RESULT": what the agent's filter should do with it, and "ok" or the error.
"""

import ctypes
import errno
import mmap
import os
import platform
import socket

libc = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"
NULL = 0
BAD = -1

# name: number on x86_64, number on aarch64
NUMBERS = {
    "unshare": (272, 97), "clone": (56, 220), "clone3": (435, 435), "setns": (308, 268),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "open_tree_attr": (467, 467),
    "bpf": (321, 280), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "io_uring_setup": (425, 425), "getpid": (39, 172),
}


def number(name):
    return NUMBERS[name][0 if X86 else 1]


def call(nr, *args):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(nr), *[ctypes.c_long(arg) for arg in args])
    return ctypes.get_errno() if result == -1 else 0


def clone(flags):
    """The child of a clone that succeeds ends at once."""
    parent = os.getpid()
    failed = call(number("clone"), flags | 17, NULL, NULL, NULL, NULL)
    if os.getpid() != parent:
        os._exit(0)
    return failed


def sock(family, kind, protocol=0):
    try:
        socket.socket(family, kind, protocol).close()
        return 0
    except OSError as error:
        return error.errno


def pair(family):
    fds = (ctypes.c_int * 2)()
    ctypes.set_errno(0)
    return ctypes.get_errno() if libc.socketpair(family, 1, 0, fds) == -1 else 0


def int80():
    """getpid by the 32-bit entry of the kernel: mov eax, 20; int 0x80; ret."""
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    result = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    return -result if result < 0 else 0


def attempt(kind, name, function, *args):
    child = os.fork()
    if child == 0:
        os._exit(function(*args))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    result = "ok" if code == 0 else errno.errorcode.get(code, str(code))
    print(f"{kind} {name}: {result}", flush=True)


NAMESPACES = {
    "mnt": 0x00020000, "cgroup": 0x02000000, "uts": 0x04000000, "ipc": 0x08000000,
    "user": 0x10000000, "pid": 0x20000000, "net": 0x40000000,
}
for namespace, flag in NAMESPACES.items():
    attempt("refused", f"unshare {namespace}", call, number("unshare"), flag)
    attempt("refused", f"clone {namespace}", clone, flag)
attempt("refused", "unshare time", call, number("unshare"), 0x80)
attempt("refused", "unshare user and net", call, number("unshare"), 0x50000000)
attempt("allowed", "unshare files", call, number("unshare"), 0x400)
attempt("allowed", "clone", clone, 0)

for name, args in {
    "setns": (BAD, 0), "mount": (NULL,) * 5, "umount2": (NULL, 0), "pivot_root": (NULL, NULL),
    "open_tree": (BAD, NULL, 0), "open_tree_attr": (BAD, NULL, 0, NULL, 0),
    "move_mount": (BAD, NULL, BAD, NULL, 0), "fsopen": (NULL, 0), "fsconfig": (BAD, 0, NULL, NULL, 0),
    "fsmount": (BAD, 0, 0), "fspick": (BAD, NULL, 0), "mount_setattr": (BAD, NULL, 0, NULL, 0),
    "bpf": (BAD, NULL, 0), "keyctl": (9999,), "add_key": (NULL,) * 5, "request_key": (NULL,) * 4,
}.items():
    attempt("refused", name, call, number(name), *args)
for name in ["clone3", "io_uring_setup"]:
    attempt("absent", name, call, number(name), 0, NULL)

for name, family, kind, protocol in [
    ("packet", 17, socket.SOCK_RAW, 0), ("packet datagram", 17, socket.SOCK_DGRAM, 0),
    ("vsock", 40, socket.SOCK_STREAM, 0), ("alg", 38, socket.SOCK_SEQPACKET, 0),
    ("raw", socket.AF_INET, socket.SOCK_RAW, 1), ("raw 6", socket.AF_INET6, socket.SOCK_RAW, 58),
    ("raw with flags", socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 1),
    ("old packet", socket.AF_INET, 10, 3), ("generic netlink", 16, socket.SOCK_RAW, 16),
    ("audit netlink", 16, socket.SOCK_RAW, 9), ("netfilter netlink", 16, socket.SOCK_RAW, 12),
    ("bluetooth", 31, socket.SOCK_RAW, 0), ("can", 29, socket.SOCK_RAW, 1),
]:
    attempt("refused", f"socket {name}", sock, family, kind, protocol)
attempt("refused", "socketpair of another family", pair, 30)
for name, family, kind in [
    ("stream", socket.AF_INET, socket.SOCK_STREAM), ("stream 6", socket.AF_INET6, socket.SOCK_STREAM),
    ("datagram", socket.AF_INET, socket.SOCK_DGRAM), ("unix", socket.AF_UNIX, socket.SOCK_STREAM),
    ("routing netlink", 16, socket.SOCK_RAW),
]:
    attempt("allowed", f"socket {name}", sock, family, kind)
attempt("allowed", "socketpair", pair, socket.AF_UNIX)

if X86:
    attempt("refused", "x32 getpid", call, 0x40000000 + number("getpid"))
    attempt("refused", "x32 unshare user", call, 0x40000000 + number("unshare"), 0x10000000)
    attempt("refused", "32-bit getpid", int80)
