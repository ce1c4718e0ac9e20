"""Hooks of schemathesis for workspace-agent: what is generated must not do harm, and has to get somewhere.

Generated commands would run as the user of the tests. So every one is replaced by a harmless one before it is
sent, whatever phase it comes from, and its times are bounded. Calls about a command find one that runs in half
of the cases, calls about a path often find one of the sample tree.

Needs AGENT_URL, AGENT_TOKEN and AGENT_DOCUMENT. Used by tests/tests/openapi.rs.
"""

import json
import os
import urllib.request
import zlib

import schemathesis
from document import FRAMES, JSON, NDJSON, Document
from hypothesis import strategies

COMMANDS = [["true"], ["echo", "out"], ["cat"], ["sleep", "0"], ["false"]]
SCRIPTS = ["true", "echo out; echo err >&2", "cat", "exit 3", "printf '\\377'", "kill -KILL $$"]
TERMINAL = {"argv": ["cat"], "tty": {"rows": 24, "cols": 80}}
INTERACTIVE = [{"argv": ["cat"], "stdin_open": True}, TERMINAL]
ACCEPTED = [JSON, NDJSON, FRAMES, "*/*", "text/html"]
PATHS = ["file", "dir", "dir/inner", "link", "outward", "fifo", "file/below", "none"]
LONGEST_MS = 300
DOCUMENT = Document(os.environ["AGENT_DOCUMENT"])


def choice(options, key):
    """One of the options, the same for the same key in every run."""
    return options[zlib.crc32(repr(key).encode("utf-8", "surrogatepass")) % len(options)]


def tame(body):
    """The same request with a harmless command that ends soon, or one that is as wrong as it was."""
    body = dict(body)
    if isinstance(body.get("argv"), list):
        runnable = all(isinstance(word, str) and "\0" not in word for word in body["argv"])
        words = ["\0" if isinstance(word, str) else word for word in body["argv"]]
        body["argv"] = choice(COMMANDS, body["argv"]) if words and runnable else words
    if isinstance(body.get("shell"), str):
        body["shell"] = "\0" if "\0" in body["shell"] else choice(SCRIPTS, body["shell"])
    for name in ("timeout_ms", "kill_grace_ms"):
        body[name] = shortened(body.get(name, LONGEST_MS))
    return body


def shortened(time):
    """A time that is acceptable, made short; what is no time is left for the agent to refuse."""
    return min(time, LONGEST_MS) if type(time) is int and time > 0 else time


def running_command(body):
    """The id of a command that runs for a while and takes input."""
    body = body | {"timeout_ms": 10 * LONGEST_MS, "kill_grace_ms": 0}
    request = urllib.request.Request(
        os.environ["AGENT_URL"] + "/v1/processes",
        json.dumps(body).encode(),
        {"Authorization": "Bearer " + os.environ["AGENT_TOKEN"]},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["id"]


@schemathesis.hook
def before_call(context, case, kwargs):
    operation = case.operation.definition.raw["operationId"]
    if operation in ("exec", "startProcess") and isinstance(case.body, dict):
        case.body = tame(case.body)
    if operation in ("exec", "readOutput"):
        case.headers["Accept"] = choice(ACCEPTED, (case.body, case.query))
    parameters = case.path_parameters or {}
    if "id" in parameters and choice([True, False], parameters["id"]):
        wanted = TERMINAL if operation == "resizeProcess" else choice(INTERACTIVE, parameters["id"])
        parameters["id"] = running_command(wanted)
    if "path" in parameters and choice([True, False], parameters["path"]):
        parameters["path"] = choice(PATHS, (case.query, parameters["path"]))
    query = case.query or {}
    if "follow" in query and query["follow"] in (True, "true"):
        query["follow"] = False
    if isinstance(query.get("exclude"), list):
        # A thousand long ones are no request head any more.
        query["exclude"] = [glob[:3] if isinstance(glob, str) else glob for glob in query["exclude"]]


@schemathesis.check
def event_conformance(context, response, case):
    """Streams, which schemathesis takes for text, are as described event by event."""
    content_type = response.headers.get("content-type", [""])[0]
    if response.status_code == 200 and content_type in (NDJSON, FRAMES):
        described = case.operation.definition.raw["responses"]["200"]["content"]
        DOCUMENT.check_body(described[content_type], content_type, response.content)


# An empty archive among much that is none.
schemathesis.openapi.media_type(
    "application/x-tar", strategies.one_of(strategies.binary(max_size=2048), strategies.just(bytes(1024)))
)
