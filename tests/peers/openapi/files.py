"""The calls about single files, and what they refuse."""

import contextlib
import os
import socket

from caller import eventually
from document import JSON, OCTETS
from syncs import EMPTY, file, tar


def accepted(caller, root):
    caller.call("writeFile", 201, b"hello\n", "mode=0600&fsync=true", path="dir/a.txt")
    caller.call("writeFile", 200, b"hello again\n", path="dir/a.txt")
    assert caller.call("readFile", (200, OCTETS), path="dir/a.txt") == b"hello again\n"
    caller.call("statFile", 200, path="dir/a.txt")
    os.symlink("a.txt", f"{root}/dir/link")
    os.symlink(b"caf\xe9", f"{root}/dir/".encode() + b"caf\xe9")
    os.mkfifo(f"{root}/dir/fifo")
    assert len(caller.call("readFile", (200, JSON), path="dir")["entries"]) == 4
    caller.call("listRoot", 200)


def refused(caller, root):
    os.symlink("/etc", f"{root}/outward")
    os.symlink("none", f"{root}/dangling")
    os.symlink("loop", f"{root}/loop")
    os.makedirs(f"{root}/deep/" + "d/" * 300)
    calls = ("readFile", "statFile", "writeFile", "removeEntry")
    for operation in calls:
        body = b"x" if operation == "writeFile" else None
        for expected, path in [
            ((400, "bad_path"), "a/../b"),
            ((403, "outside_root"), "outward/passwd"),
            ((409, "not_a_directory"), "plain/below"),
            ((409, "too_many_links"), "loop/x"),
        ]:
            refuse(caller, operation, expected, body, path=path)
        refuse(caller, operation, (400, "bad_query"), body, query="x=1", path="plain")
    for operation in ("readFile", "statFile", "removeEntry"):
        refuse(caller, operation, (404, "not_found"), path="none")
    for operation in ("readFile", "statFile"):
        refuse(caller, operation, (409, "not_a_regular_file"), path="dir/fifo")
    caller.call("listRoot", (400, "bad_query"), query="x=1")
    caller.call("writeFile", (409, "is_a_directory"), b"x", path="dir")
    caller.call("writeFile", (404, "not_found"), b"x", path="dangling/x")
    caller.raw("writeFile", (400, "upload_cut"), ["Transfer-Encoding: chunked"], b"no size\r\n", path="cut")
    caller.call("removeEntry", (409, "directory_not_empty"), path="dir")
    caller.call("removeEntry", (409, "too_deep"), query="recursive=true", path="deep")
    caller.call("removeEntry", 204, query="recursive=true", path="dir")


def refuse(caller, operation, expected, body=None, **rest):
    # An answer to HEAD has no body, and so no code.
    caller.call(operation, expected[0] if operation == "statFile" else expected, body, **rest)


def shut(caller, root):
    """Gives whether the kernel holds the agent to permissions: not so a privileged one."""
    os.mkdir(f"{root}/shut")
    with open(f"{root}/shut/secret", "wb"):
        os.chmod(f"{root}/shut/secret", 0)
    os.chmod(f"{root}/shut", 0o500)
    reading = caller.status("/v1/files/shut/secret")
    if reading == 200:
        return False
    forbidden = (403, "permission_denied")
    caller.call("readFile", forbidden, path="shut/secret")
    caller.call("statFile", 403, path="shut/secret")
    caller.call("writeFile", forbidden, b"x", path="shut/new")
    caller.call("removeEntry", forbidden, path="shut/secret")
    caller.call("push", forbidden, tar(file("new")), "path=shut")
    os.chmod(f"{root}/shut", 0)
    for operation in ("pull", "manifest", "changes", "watch"):
        caller.call(operation, forbidden, query="path=shut")
    for operation in ("pullDifferences", "diff"):
        caller.call(operation, forbidden, EMPTY, query="path=shut")
    os.chmod(f"{root}/shut", 0o700)
    mode = os.stat(root).st_mode
    os.chmod(root, 0)
    caller.call("listRoot", forbidden)
    os.chmod(root, mode)
    return True


def too_many(caller):
    # As many uploads as there are places, none of which comes to its end.
    head = caller.head("writeFile", ["Content-Length: 9"], path={"path": "slow"})
    with contextlib.ExitStack() as stack:
        for _ in range(64):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", caller.port)))
            connection.sendall(head + b"begun")
        full = (429, "too_many_transfers")
        eventually(lambda: caller.status("/v1/files") == 429)
        caller.call("listRoot", full)
        caller.call("readFile", full, path="tree")
        caller.call("writeFile", full, b"x", path="more")
        caller.call("push", full, tar(file("a")))
        for operation in ("pull", "manifest", "changes"):
            caller.call(operation, full)
        for operation in ("pullDifferences", "diff"):
            caller.call(operation, full, EMPTY)
