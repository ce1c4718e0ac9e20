"""Commands by id, and what is refused of them."""

from caller import eventually
from commands import STARTS
from document import FRAMES, NDJSON

# The calls about one command, with a body that each takes.
CALLS = {
    "showProcess": None,
    "readOutput": None,
    "endProcess": None,
    "signalProcess": {"signal": "SIGTERM"},
    "resizeProcess": {"rows": 24, "cols": 80},
    "attachProcess": None,
}


def accepted(caller):
    body = {"id": "walk", "argv": ["cat"], "stdin_open": True}
    caller.call("startProcess", 201, body)
    caller.call("startProcess", 200, body)
    caller.call("startProcess", (409, "id_in_use"), {"id": "walk", "argv": ["true"]})
    assert caller.call("showProcess", 200, id="walk")["state"] == "running"
    caller.call("feedProcess", 200, b"typed", id="walk")
    written(caller, "walk", 5)
    assert b'"open"' in caller.call("readOutput", (200, NDJSON), id="walk")
    signalled = caller.call("signalProcess", 200, {"signal": "SIGCONT", "scope": "leader"}, id="walk")
    assert signalled == {"signalled": 1}, signalled
    caller.call("feedProcess", 200, b"", "eof=true", id="walk")
    ended(caller, "walk")
    caller.call("listProcesses", 200)
    for media_type in (NDJSON, FRAMES):
        accept = {"Accept": media_type}
        query = "follow=true&stdout_from=5"
        reply = caller.call("readOutput", (200, media_type), None, query, accept, id="walk")
        assert b'"exited"' in reply, reply
    caller.call("startProcess", 201, {"id": "gap", "shell": "seq 1 1000", "max_output_bytes": 10})
    ended(caller, "gap")
    assert b'"gap"' in caller.call("readOutput", (200, NDJSON), query="follow=true", id="gap")
    body = {"id": "tree", "shell": "sleep 600 & echo; wait"}
    caller.call("startProcess", 201, body, "background=kill")
    written(caller, "tree", 1)
    reply = end(caller, "tree")
    assert reply["killed"] >= 2, reply


def written(caller, name, count):
    eventually(lambda: caller.call("showProcess", 200, id=name)["stdout_bytes"] == count)


def ended(caller, name):
    eventually(lambda: caller.call("showProcess", 200, id=name)["state"] == "ended")


def end(caller, name):
    return caller.call("endProcess", 200, query="grace_ms=0", id=name)


def refused(caller):
    caller.call("feedProcess", (404, "no_such_stdin"), b"", id="none")
    caller.call("startProcess", 201, {"id": "open", "argv": ["cat"], "stdin_open": True})
    for operation, body in CALLS.items():
        caller.call(operation, (404, "no_such_process"), body, id="none")
        caller.call(operation, (400, "bad_query"), body, "x=1", id="open")
    caller.call("feedProcess", (400, "bad_query"), b"", "x=1", id="open")
    for operation in ("listProcesses", "events", "info"):
        caller.call(operation, (400, "bad_query"), query="x=1")
    caller.call("readOutput", (400, "out_of_range"), query="stdout_from=1", id="open")
    caller.call("readOutput", (406, "not_acceptable"), headers={"Accept": "text/html"}, id="open")
    caller.call("endProcess", (400, "out_of_range"), query="grace_ms=600001", id="open")
    caller.call("signalProcess", (400, "bad_json"), b"{", id="open")
    caller.call("signalProcess", (400, "bad_signal"), {"signal": "TERM"}, id="open")
    caller.call("signalProcess", (413, "body_too_large"), {"signal": "x" * 5000}, id="open")
    for operation in ("signalProcess", "feedProcess"):
        caller.raw(operation, (400, "body_cut"), ["Transfer-Encoding: chunked"], b"no size\r\n", id="open")
    end(caller, "open")
    closed = {"id": "closed", "shell": "exec 0<&-; echo; sleep 600", "stdin_open": True}
    caller.call("startProcess", 201, closed)
    written(caller, "closed", 1)
    caller.call("feedProcess", (409, "stdin_closed"), bytes(1 << 20), id="closed")
    end(caller, "closed")


def too_many(caller, most):
    for number in range(most):
        caller.call("startProcess", 201, {"id": f"many-{number}", "argv": ["sleep", "600"]})
    for operation in STARTS:
        caller.call(operation, (429, "too_many_processes"), {"argv": ["true"]})
    for number in range(most):
        end(caller, f"many-{number}")
