"""Whole trees as archives, and what is refused of them."""

import io
import json
import tarfile

from document import TAR


def tar(*members):
    """An archive of (name, type, content or target)."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, kind, data in members:
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, 0o755
            if kind == tarfile.REGTYPE:
                member.size = len(data)
            elif kind != tarfile.DIRTYPE:
                member.linkname = data
            archive.addfile(member, io.BytesIO(data) if kind == tarfile.REGTYPE else None)
    return content.getvalue()


def file(name):
    return name, tarfile.REGTYPE, b"content"


def accepted(caller):
    report = caller.call("push", 200, TREE, "path=tree", {"Content-Type": TAR})
    assert (report["files"], report["directories"], report["symlinks"]) == (1, 1, 1), report
    assert caller.call("pull", 200, query="path=tree&exclude=*.o&exclude=b&default_excludes=false")
    manifest = caller.call("manifest", 200, query="path=tree&checksum=true")
    assert len(manifest.splitlines()) == 4, manifest
    assert caller.call("diff", 200, manifest, "path=tree&checksum=true").count(b"\n") == 1
    assert caller.call("diff", 200, EMPTY, "path=tree&direction=pull").count(b"create") == 3
    assert b"content" in caller.call("pullDifferences", 200, EMPTY, "path=tree&delete=true")
    cursor = cursor_of(caller.call("changes", 200, query="path=tree"))
    caller.call("push", 200, tar(file("more")), "path=tree")
    assert b"create" in caller.call("changes", 200, query=f"since={cursor}")
    assert b"more" in caller.call("pull", 200, query=f"since={cursor}")


def cursor_of(lines):
    return json.loads(lines.splitlines()[-1])["cursor"]


def refused(caller):
    for expected, query, body in [
        ((400, "bad_query"), "x=1", TREE),
        ((400, "bad_path"), "path=../x", TREE),
        ((400, "bad_archive"), "", tar(("hard", tarfile.LNKTYPE, "sub/a"))),
        ((400, "archive_cut"), "", TREE[:600]),
        ((403, "outside_root"), "path=outward", TREE),
        ((404, "not_found"), "path=dangling", TREE),
        ((409, "not_a_directory"), "path=plain", TREE),
        ((409, "is_a_directory"), "path=tree", tar(file("sub"))),
        ((409, "is_a_link"), "path=tree", tar(file("link/x"))),
        ((409, "too_many_links"), "path=loop/x", TREE),
    ]:
        caller.call("push", expected, body, query)
    gzip = {"Content-Type": "application/gzip"}
    caller.call("push", (415, "unsupported_media_type"), TREE, headers=gzip)
    for operation in ("pull", "pullDifferences", "manifest", "diff", "changes", "watch"):
        body = EMPTY if operation in ("pullDifferences", "diff") else None
        for expected, query in [
            ((400, "bad_query"), "x=1"),
            ((400, "bad_path"), "path=../x"),
            ((400, "bad_exclude"), "exclude=a[b"),
            ((403, "outside_root"), "path=outward"),
            ((404, "not_found"), "path=none&direction=pull" if operation == "diff" else "path=none"),
            ((409, "not_a_directory"), "path=plain"),
            ((409, "too_many_links"), "path=loop/x"),
        ]:
            caller.call(operation, expected, body, query)
    for operation in ("pullDifferences", "diff"):
        coded = {"Content-Encoding": "gzip"}
        caller.call(operation, (415, "unsupported_media_type"), EMPTY, headers=coded)
    for operation in ("pull", "changes"):
        caller.call(operation, (410, "unknown_cursor"), query="since=another-1")


EMPTY = b'{"entries":0}\n'
TREE = tar(("sub", tarfile.DIRTYPE, None), file("sub/a"), ("link", tarfile.SYMTYPE, "sub/a"))
