"""Commands with their caller attached, and what cannot be started."""

import base64
import json
import os

from document import FRAMES, JSON, NDJSON, frames

STARTS = ("exec", "startProcess")
# Everything that can be asked for, each so that the command does not mind.
LIMITS = {
    "limits": {
        "nofile": 256,
        "nproc": 100_000,
        "cpu_seconds": 60,
        "memory_bytes": 1 << 34,
        "file_size_bytes": 1 << 20,
        "core_bytes": 0,
        "pids": 100,
    },
    "nice": 5,
    "oom_score_adj": 500,
    "umask": "027",
}


def refused(caller, root):
    programs(root)
    for operation in STARTS:
        for body, status, code in [
            (b"{", 400, "bad_json"),
            ({"argv": ["true"], "unknown": 1}, 400, "bad_json"),
            ({"argv": ["true"], "shell": "true"}, 400, "bad_command"),
            ({"argv": []}, 400, "bad_command"),
            ({"argv": ["true"], "env": {"A=B": "c"}}, 400, "bad_environment"),
            ({"argv": ["true"], "stdin": "", "stdin_open": True}, 400, "bad_stdin"),
            ({"argv": ["true"], "stdin": "", "tty": {"rows": 1, "cols": 1}}, 400, "bad_stdin"),
            ({"argv": ["true"], "id": "a/b"}, 400, "bad_id"),
            ({"argv": ["true"], "timeout_ms": 0}, 400, "out_of_range"),
            ({"argv": ["true"], "nice": 20}, 400, "out_of_range"),
            ({"argv": ["true"], "oom_score_adj": -1001}, 400, "out_of_range"),
            ({"argv": ["true"], "tty": {"rows": 0, "cols": 80}}, 400, "out_of_range"),
            ({"argv": ["true"], "spool": True}, 400, "no_spool"),
            ({"argv": ["no-such-program"]}, 422, "command_not_found"),
            ({"argv": ["./plain"]}, 422, "permission_denied"),
            ({"argv": ["./data"]}, 422, "exec_format_error"),
            ({"argv": ["./script"]}, 422, "bad_interpreter"),
            ({"argv": ["true"], "cwd": "none"}, 422, "bad_cwd"),
            ({"argv": ["true", "x" * (1 << 20)]}, 422, "arguments_too_large"),
        ]:
            caller.call(operation, (status, code), body)
        caller.call(operation, (400, "bad_query"), {"argv": ["true"]}, "background=perhaps")
        caller.raw(operation, (413, "body_too_large"), ["Content-Length: 99999999"])
        caller.raw(operation, (400, "body_cut"), ["Transfer-Encoding: chunked"], b"no size\r\n")
        # A program that is being written.
        with open(f"{root}/script", "ab"):
            caller.call(operation, (422, "start_failed"), {"argv": ["./script"]})


def programs(root):
    for name, mode, content in [
        ("data", 0o755, b"\x01\x02 no program"),
        ("script", 0o755, b"#!/no/such/interpreter\n"),
        ("plain", 0o644, b""),
    ]:
        with open(f"{root}/{name}", "wb") as file:
            file.write(content)
        os.chmod(f"{root}/{name}", mode)


def buffered(caller):
    full = {
        "shell": "echo out; printf '\\377' >&2; exit 3",
        "cwd": ".",
        "env": {"A": "b"},
        "stdin_base64": base64.b64encode(b"in").decode(),
        "timeout_ms": 5000,
        "kill_grace_ms": 0,
        "on_disconnect": "keep",
        "backpressure": True,
    }
    assert caller.call("exec", 200, full, "background=kill")["exit_code"] == 3
    cut = caller.call("exec", 200, {"shell": "seq 1 1000", "max_output_bytes": 20})
    assert cut["stdout_gap"] is not None, cut
    killed = caller.call("exec", 200, {"shell": "kill -KILL $$"}, headers={"Accept": JSON})
    assert killed["signal"] == "SIGKILL", killed
    late = {"shell": "sleep 100 & sleep 100", "timeout_ms": 100, "kill_grace_ms": 100}
    assert caller.call("exec", 200, late)["timed_out"] is True
    caller.call("exec", (406, "not_acceptable"), full, headers={"Accept": "text/html"})


def streamed(caller):
    body = {"shell": "echo out; printf '\\377' >&2"}
    for media_type, events in [(NDJSON, lines), (FRAMES, frames)]:
        for body, expected in [
            ({"shell": "echo out; printf '\\377' >&2"}, {"started", "stdout", "stderr", "exited"}),
            ({"shell": "echo out", "tty": {"rows": 24, "cols": 80}}, {"started", "pty", "exited"}),
        ]:
            reply = caller.call("exec", (200, media_type), body, headers={"Accept": media_type})
            seen = [event["event"] for event in events(reply)]
            assert seen[0] == "started" and seen[-1] == "exited" and set(seen) == expected, seen


def lines(body):
    return map(json.loads, body.splitlines())


def repeated(caller, root):
    """An exec with an id can be asked for again, while it runs and after its end."""
    body = {"id": "again", "shell": "echo run >> runs; exit 3"}
    replies = [caller.call("exec", 200, body) for _ in range(2)]
    assert [reply["exit_code"] for reply in replies] == [3, 3], replies
    assert replies[0]["pid"] == replies[1]["pid"], replies
    with open(f"{root}/runs", encoding="utf-8") as runs:
        assert runs.read() == "run\n"
    caller.call("exec", (409, "id_in_use"), {"id": "again", "argv": ["true"]})


def limited(caller):
    asked = set(LIMITS["limits"]) | {"nice", "oom_score_adj", "umask"}
    reply = caller.call("exec", 200, {"argv": ["true"]} | LIMITS)
    assert set(reply["limits"]) == asked, reply
    reply = caller.call("exec", (200, NDJSON), {"argv": ["true"]} | LIMITS, headers={"Accept": NDJSON})
    for event in lines(reply):
        if event["event"] in ("started", "exited"):
            assert set(event["limits"]) == asked, event
    started = caller.call("startProcess", 201, {"argv": ["true"]} | LIMITS)
    assert set(started["limits"]) == asked, started
