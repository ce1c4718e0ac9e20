"""The calls about single files, and what they refuse."""

import contextlib
import os
import socket
import threading

from document import JSON, OCTETS
import uploads
from syncs import EMPTY, NO_CHUNKS, file, tar


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
    caller.call("chunks", (409, "not_a_regular_file"), query="path=dir&file=fifo")
    caller.call("delta", (409, "not_a_regular_file"), NO_CHUNKS, "path=dir&file=fifo")
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


@contextlib.contextmanager
def growing(path):
    """A file that takes long to read and never stays as it is."""
    size = 256 << 20
    with open(path, "wb") as file:
        file.truncate(size)
        begun, end = threading.Event(), threading.Event()

        def grow():
            while not end.is_set():
                file.truncate(file.seek(0, os.SEEK_END) + 1)
                begun.set()

        thread = threading.Thread(target=grow)
        thread.start()
        begun.wait()
        try:
            yield
        finally:
            end.set()
            thread.join()
    os.unlink(path)


def changing(caller, root):
    with growing(f"{root}/growing"):
        headers = {"Want-Repr-Digest": "sha-256=1"}
        caller.call("readFile", (409, "changed_while_read"), headers=headers, path="growing")


def conditional(caller):
    caller.call("writeFile", 201, b"hello\n", path="tagged")
    tag = caller.tag("tagged")
    for field, value in [("If-None-Match", tag), ("If-None-Match", "*")]:
        caller.call("readFile", 304, headers={field: value}, path="tagged")
        caller.call("statFile", 304, headers={field: value}, path="tagged")
    caller.call("listRoot", 304, headers={"If-None-Match": "*"})
    caller.call("listRoot", (200, JSON), query="depth=2&glob=*&glob=**/a&digest=sha-256")
    other = {"If-Match": '"another"'}
    failed = (412, "precondition_failed")
    caller.call("readFile", failed, headers=other, path="tagged")
    caller.call("statFile", 412, headers=other, path="tagged")
    caller.call("listRoot", failed, headers=other)
    caller.call("writeFile", failed, b"x", headers=other, path="tagged")
    caller.call("writeFile", failed, b"x", headers={"If-None-Match": "*"}, path="tagged")
    caller.call("removeEntry", failed, headers=other, path="tagged")
    bad = {"If-Match": "another"}
    caller.call("listRoot", (400, "bad_condition"), headers=bad)
    for operation in ("readFile", "statFile", "writeFile", "removeEntry"):
        refuse(caller, operation, (400, "bad_condition"), headers=bad, path="tagged")
    wanted = {"Want-Repr-Digest": "sha-256=1"}
    part = wanted | {"Range": "bytes=0-1", "If-Range": tag}
    assert caller.call("readFile", (206, OCTETS), headers=part, path="tagged") == b"he"
    caller.call("statFile", 200, headers=wanted, path="tagged")
    caller.call("readFile", (416, "range_not_satisfiable"), headers={"Range": "bytes=6-"}, path="tagged")
    caller.call("writeFile", (400, "bad_digest"), b"x", headers={"Repr-Digest": "sha-256=x"}, path="tagged")
    digest = {"Repr-Digest": "sha-256=:WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=:"}
    caller.call("writeFile", (422, "digest_mismatch"), b"hullo\n", headers=digest, path="tagged")
    caller.call("writeFile", 200, b"hello\n", headers=digest | {"If-Match": tag}, path="tagged")
    caller.call("removeEntry", 204, headers={"If-Match": caller.tag("tagged")}, path="tagged")


def arranged(caller, root):
    caller.call("makeDirectory", 201, {"path": "made/below", "parents": True, "mode": "0755"})
    caller.call("makeDirectory", 200, {"path": "made", "exist_ok": True})
    caller.call("writeFile", 201, b"x", path="made/file")
    caller.call("writeFile", 201, b"x", path="made/below/file")
    for body, expected in [
        (b"{", (400, "bad_json")),
        ({"path": "a", "mode": "9"}, (400, "out_of_range")),
        ({"path": "../a"}, (400, "bad_path")),
        ({"path": "outward/a"}, (403, "outside_root")),
        ({"path": "none/a"}, (404, "not_found")),
        ({"path": "made"}, (409, "already_exists")),
        ({"path": "made/file/a"}, (409, "not_a_directory")),
        ({"path": "loop/a"}, (409, "too_many_links")),
    ]:
        caller.call("makeDirectory", expected, body)
    for source, target, overwrite, expected in [
        ("made/file", "../a", False, (400, "bad_path")),
        ("made/file", "outward/a", False, (403, "outside_root")),
        ("none", "a", False, (404, "not_found")),
        ("made/file", "made/below", False, (409, "already_exists")),
        ("made", "made/below/a", False, (409, "into_itself")),
        ("made/file", "made/below", True, (409, "is_a_directory")),
        ("made/below", "made/file", True, (409, "not_a_directory")),
        ("deep", "made/below", True, (409, "directory_not_empty")),
        ("made/file", "loop/a", False, (409, "too_many_links")),
        ("made/file", "made/below/file", True, (200, JSON)),
    ]:
        caller.call("moveEntry", expected, {"from": source, "to": target, "overwrite": overwrite})
    caller.call("moveEntry", (400, "bad_json"), {"from": "made"})
    for operation, body in [("makeDirectory", {"path": "a"}), ("moveEntry", {"from": "a", "to": "b"})]:
        caller.call(operation, (400, "bad_query"), body, query="x=1")
        caller.call(operation, (413, "body_too_large"), b" " * 70_000)
        caller.raw(operation, (400, "body_cut"), ["Transfer-Encoding: chunked"], b"no size\r\n")


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
    caller.call("makeDirectory", forbidden, {"path": "shut/new"})
    caller.call("moveEntry", forbidden, {"from": "plain", "to": "shut/new"})
    uploads.end(caller, forbidden, uploads.begin(caller, "shut/new"))
    caller.call("push", forbidden, tar(file("new")), "path=shut")
    caller.call("chunks", forbidden, query="path=shut&file=secret")
    caller.call("delta", forbidden, NO_CHUNKS, "path=shut&file=secret")
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
    # Uploads that do not come to their end, until one is refused. Each of the others holds a place from
    # before its body is asked for.
    head = caller.head("writeFile", ["Content-Length: 9", "Expect: 100-continue"], path={"path": "slow"})
    with contextlib.ExitStack() as stack:
        status = b"HTTP/1.1 100 "
        while status.startswith(b"HTTP/1.1 100 "):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", caller.port), timeout=60))
            connection.sendall(head)
            status = connection.recv(64)
        assert status.startswith(b"HTTP/1.1 429 "), status
        full = (429, "too_many_transfers")
        caller.call("listRoot", full)
        caller.call("readFile", full, path="tree")
        caller.call("statFile", 429, headers={"Want-Repr-Digest": "sha-256=1"}, path="plain")
        caller.call("appendUpload", full, b"x", headers=uploads.part(0), id="0123456789abcdef")
        caller.call("writeFile", full, b"x", path="more")
        caller.call("push", full, tar(file("a")))
        caller.call("chunks", full, query="path=tree&file=sub/a")
        caller.call("delta", full, NO_CHUNKS, "path=tree&file=sub/a")
        for operation in ("pull", "manifest", "changes"):
            caller.call(operation, full)
        for operation in ("pullDifferences", "diff"):
            caller.call(operation, full, EMPTY)
