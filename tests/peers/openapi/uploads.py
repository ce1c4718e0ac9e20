"""Uploads in several requests, and what they refuse."""

import contextlib
import os
import socket

from caller import eventually

DIGEST = {"Repr-Digest": "sha-256=:WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=:"}
BEGIN = {"Upload-Complete": "?0"}


def part(offset, complete=False, **fields):
    """The header fields of a part."""
    complete = "?1" if complete else "?0"
    described = {"Upload-Offset": str(offset), "Upload-Complete": complete}
    return {"Content-Type": "application/partial-upload"} | described | fields


def begin(caller, path, headers=None):
    """The id of an upload that has just begun."""
    return caller.call("writeFile", 201, b"", headers=BEGIN | (headers or {}), path=path)["upload"]


def end(caller, expected, upload, body=b"", offset=0):
    return caller.call("appendUpload", expected, body, headers=part(offset, True), id=upload)


def cancel(caller, upload):
    caller.call("cancelUpload", 204, id=upload)


def accepted(caller):
    upload = begin(caller, "uploaded", {"Upload-Length": "6"} | DIGEST)
    caller.call("appendUpload", 204, b"hel", headers=part(0), id=upload)
    caller.call("statUpload", 204, id=upload)
    assert caller.call("listUploads", 200)["uploads"][0]["offset"] == 3
    written = end(caller, 201, upload, b"lo\n", 3)
    assert end(caller, 201, upload, b"", 6) == written
    caller.call("statUpload", 204, id=upload)
    assert end(caller, 200, begin(caller, "uploaded"), b"again")["size"] == 5


def refused(caller, root):
    fields(caller)
    places(caller, root)
    kinds(caller, root)


def fields(caller):
    upload = begin(caller, "fields", {"Upload-Length": "6"} | DIGEST)
    for expected, headers in [
        ((400, "bad_upload_field"), part(0) | {"Upload-Offset": "x"}),
        ((400, "upload_length_mismatch"), part(0) | {"Upload-Length": "7"}),
        ((409, "upload_offset_mismatch"), part(1)),
        ((415, "unsupported_media_type"), {"Upload-Offset": "0"}),
    ]:
        caller.call("appendUpload", expected, b"x", headers=headers, id=upload)
    for operation in ("appendUpload", "cancelUpload"):
        caller.call(operation, (404, "no_such_upload"), headers=part(0), id="none")
        caller.call(operation, (400, "bad_query"), headers=part(0), query="x=1", id=upload)
    caller.call("statUpload", 404, id="none")
    caller.call("statUpload", 400, query="x=1", id=upload)
    caller.call("listUploads", (400, "bad_query"), query="x=1")
    cut = ["Transfer-Encoding: chunked"] + [f"{name}: {value}" for name, value in part(0).items()]
    caller.raw("appendUpload", (400, "upload_cut"), cut, b"no size\r\n", id=upload)
    busy(caller, upload)
    end(caller, (422, "digest_mismatch"), upload, b"hullo\n")
    caller.call("writeFile", (400, "bad_upload_field"), b"", headers={"Upload-Complete": "0"}, path="x")
    long = BEGIN | {"Upload-Length": "1"}
    caller.call("writeFile", (400, "upload_length_mismatch"), b"two", headers=long, path="x")
    large = BEGIN | {"Upload-Length": "2000000"}
    caller.call("writeFile", (507, "upload_space_used"), b"", headers=large, path="x")
    upload = begin(caller, "x")
    end(caller, (507, "upload_space_used"), upload, b"x" * 2_000_000)
    cancel(caller, upload)


def busy(caller, upload):
    """Another request while one is sending."""
    head = [f"{name}: {value}" for name, value in part(0).items()]
    head = caller.head("appendUpload", head + ["Content-Length: 9", "Expect: 100-continue"], path={"id": upload})
    with contextlib.closing(socket.create_connection(("127.0.0.1", caller.port), timeout=60)) as sending:
        sending.sendall(head)
        # The body is asked for by whoever holds the upload.
        assert sending.recv(64).startswith(b"HTTP/1.1 100 ")
        caller.call("appendUpload", (409, "upload_busy"), b"x", headers=part(0), id=upload)
        caller.call("cancelUpload", (409, "upload_busy"), id=upload)
    wait_for(caller, upload)


def wait_for(caller, upload):
    def free():
        return not any(one["busy"] for one in caller.call("listUploads", 200)["uploads"] if one["upload"] == upload)

    eventually(free)


def places(caller, root):
    """What becomes of the path before the last part."""
    for path, change, expected in [
        ("later1", os.mkdir, (409, "is_a_directory")),
        ("later2/x", lambda path: open(path, "wb").close(), (409, "not_a_directory")),
        ("later3/x", lambda path: os.symlink("later3", path), (409, "too_many_links")),
        ("later4/x", lambda path: os.symlink("/etc", path), (403, "outside_root")),
        ("later5/x", lambda path: os.symlink("none", path), (404, "not_found")),
    ]:
        upload = begin(caller, path)
        change(f"{root}/{path.split('/')[0]}")
        end(caller, expected, upload, b"x")
        cancel(caller, upload)
    upload = begin(caller, "later6", {"If-None-Match": "*"})
    caller.call("writeFile", 201, b"another's", path="later6")
    end(caller, (412, "precondition_failed"), upload, b"mine")
    cancel(caller, upload)


def kinds(caller, root):
    """What the workspace can do to the content of an upload."""
    upload = begin(caller, "x")
    content = f"{root}/.workspace-uploads/{upload}"
    os.remove(content)
    os.mkfifo(content)
    end(caller, (409, "not_a_regular_file"), upload, b"x")
    cancel(caller, upload)


def too_many(caller, most):
    uploads = [begin(caller, "x") for _ in range(most)]
    caller.call("writeFile", (429, "too_many_uploads"), b"", headers=BEGIN, path="x")
    for upload in uploads:
        cancel(caller, upload)
