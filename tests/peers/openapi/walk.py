"""Walks through every call of workspace-agent, its main errors included, and holds each answer against
docs/openapi.yaml. Usage: walk.py DOCUMENT PORT TOKEN ROOT FORWARD

The agent has to be started with --max-processes 4, --max-uploads 4, --upload-space 1MiB and a --forward on the port
FORWARD, and is stopped at the end. Fails when an answer is not as
described, or when a described one was not seen and is not listed as out of reach.
"""

import os
import signal
import sys

import commands
import files
import ports
import processes
import syncs
import terminals
import uploads
from caller import OUT_OF_REACH, Caller, eventually
from document import Document
from events import OF_A_WATCH, OF_THE_AGENT, Watch

MOST_PROCESSES = 4
MOST_UPLOADS = 4


def probes(caller):
    for operation in ("health", "ready", "metrics", "info"):
        caller.call(operation, 200)
    for operation, (method, _, _) in caller.document.operations.items():
        if operation not in ("health", "ready"):
            body = b"x" if method in ("POST", "PUT") else None
            another = {"Authorization": "Bearer another"}
            caller.call(operation, 401, body, headers=another, id="none", path="none", port="1")


def stop(caller):
    """Stops the agent while a command holds the stop up."""
    body = {"id": "last", "shell": "trap '' TERM; echo; sleep 600", "kill_grace_ms": 600000}
    caller.call("startProcess", 201, body)
    processes.written(caller, "last", 1)
    os.kill(caller.call("info", 200)["pid"], signal.SIGTERM)
    eventually(lambda: caller.status("/readyz") == 503)
    caller.call("ready", (503, "draining"))
    for operation in commands.STARTS:
        caller.call(operation, (503, "draining"), {"argv": ["true"]})
    processes.end(caller, "last")


def main(document, port, token, root, forward):
    caller = Caller(Document(document), int(port), token)
    events, changes = Watch(caller), Watch(caller, "watch")
    probes(caller)
    commands.refused(caller, root)
    commands.buffered(caller)
    commands.streamed(caller)
    commands.repeated(caller, root)
    commands.limited(caller)
    processes.accepted(caller)
    processes.refused(caller)
    processes.too_many(caller, MOST_PROCESSES)
    terminals.resized(caller)
    terminals.attached(caller)
    terminals.attached_late(caller)
    terminals.malformed(caller)
    files.accepted(caller, root)
    files.refused(caller, root)
    files.conditional(caller)
    files.changing(caller, root)
    files.arranged(caller, root)
    uploads.accepted(caller)
    uploads.refused(caller, root)
    uploads.too_many(caller, MOST_UPLOADS)
    syncs.accepted(caller)
    syncs.refused(caller)
    ports.called(caller, forward)
    restricted = files.shut(caller, root)
    files.too_many(caller)
    stop(caller)
    events.check(OF_THE_AGENT)
    changes.check(OF_A_WATCH)
    unseen = [what for what in caller.unseen() if restricted or what[1:] != (403, "permission_denied")]
    assert not unseen, f"described and not seen: {unseen}"
    reached = {what for _, _, what in caller.seen} & set(OUT_OF_REACH)
    assert not reached, f"seen, and listed as out of reach: {reached}"
    print(f"{len(caller.seen)} outcomes seen")


main(*sys.argv[1:])
