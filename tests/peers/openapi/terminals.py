"""Terminals: their size, and both directions of a command over a WebSocket."""

import contextlib
import http.client
import json
import socket
import struct

from document import OUTPUT_KINDS
from processes import end, ended, written
from websocket import ACCEPT, BINARY, CLOSE, HANDSHAKE, TEXT, WebSocket

SIZE = {"rows": 24, "cols": 80}
NORMAL, POLICY = 1000, 1008


def resized(caller):
    caller.call("startProcess", 201, {"id": "tty", "argv": ["cat"], "tty": SIZE})
    assert caller.call("resizeProcess", 200, {"rows": 50, "cols": 132}, id="tty") == {"rows": 50, "cols": 132}
    assert caller.call("showProcess", 200, id="tty")["tty"] is True
    for expected, body in [
        ((400, "bad_json"), {"rows": 24}),
        ((400, "bad_json"), SIZE | {"x": 1}),
        ((400, "out_of_range"), {"rows": 0, "cols": 80}),
        ((413, "body_too_large"), SIZE | {"x" * 5000: 1}),
    ]:
        caller.call("resizeProcess", expected, body, id="tty")
    caller.raw("resizeProcess", (400, "body_cut"), ["Transfer-Encoding: chunked"], b"no size\r\n", id="tty")
    caller.call("feedProcess", 200, b"typed\n", "eof=true", id="tty")
    ended(caller, "tty")
    caller.call("resizeProcess", (409, "not_running"), SIZE, id="tty")
    caller.call("startProcess", 201, {"id": "no-tty", "argv": ["cat"], "stdin_open": True})
    caller.call("resizeProcess", (409, "no_tty"), SIZE, id="no-tty")
    end(caller, "no-tty")


def attached(caller):
    caller.call("startProcess", 201, {"id": "shell", "argv": ["cat"], "tty": SIZE})
    caller.call("attachProcess", (426, "upgrade_required"), id="shell")
    caller.raw("attachProcess", (400, "out_of_range"), HANDSHAKE, query="stdout_from=1", id="shell")
    with attach(caller, "shell") as (socket_, events):
        assert next(events)["event"] == "attached"
        assert caller.call("showProcess", 200, id="shell")["attached"] == 1
        for text in [
            {"resize": {"rows": 50, "cols": 132}},
            {"signal": "SIGWINCH"},
            {"signal": "SIGWINCH", "scope": "leader"},
        ]:
            caller.document.validate({"$ref": "#/components/schemas/AttachRequest"}, text)
            socket_.send(TEXT, json.dumps(text).encode())
        socket_.send(BINARY, b"typed\n")
        assert next(events)["event"] == "pty"
        written(caller, "shell", len("typed\r\ntyped\r\n"))
        socket_.send(TEXT, json.dumps({"eof": True}).encode())
        rest = list(events)
        assert rest[-2]["event"] == "exited" and rest[-1] == NORMAL, rest


def attached_late(caller):
    """Output that is kept no more, and both streams of a command without a terminal."""
    body = {"id": "late", "shell": "echo err >&2; seq 1 1000; cat", "stdin_open": True, "max_output_bytes": 10}
    caller.call("startProcess", 201, body)
    written(caller, "late", 3893)
    with attach(caller, "late") as (socket_, events):
        socket_.send(TEXT, json.dumps({"eof": True}).encode())
        seen = [event if event == NORMAL else event["event"] for event in events]
        assert {"gap", "stdout", "stderr", "exited", NORMAL} <= set(seen), seen


def malformed(caller):
    caller.call("startProcess", 201, {"id": "strict", "argv": ["cat"], "stdin_open": True})
    resize, signal = '{"resize":{"rows":0,"cols":1}}', '{"signal":"TERM"}'
    for text in ["{", "[]", "{}", resize, signal, '{"eof":true,"x":1}']:
        with attach(caller, "strict") as (socket_, events):
            socket_.send(TEXT, text.encode())
            seen = list(events)
            assert seen[-1] == POLICY, (text, seen)
    end(caller, "strict")


@contextlib.contextmanager
def attach(caller, name):
    """An upgraded connection, with what comes over it, each held against the document."""
    with socket.create_connection(("127.0.0.1", caller.port), timeout=60) as connection:
        connection.sendall(caller.head("attachProcess", HANDSHAKE, path={"id": name}))
        reader = connection.makefile("rb")
        status = reader.readline()
        assert status.startswith(b"HTTP/1.1 101 "), status
        headers = http.client.parse_headers(reader)
        assert headers["sec-websocket-accept"] == ACCEPT, headers
        caller.seen.add(("attachProcess", 101, None))
        websocket = WebSocket(connection, reader)
        yield websocket, messages(caller, websocket)


def messages(caller, websocket):
    """The events, output as the event that it stands for; the last is the code of the close."""
    while True:
        kind, payload = websocket.receive()
        if kind == CLOSE:
            yield struct.unpack(">H", payload[:2])[0]
            return
        if kind == TEXT:
            event = json.loads(payload)
            caller.document.validate({"$ref": "#/components/schemas/AttachEvent"}, event)
            yield event
        else:
            number, offset = struct.unpack(">BQ", payload[:9])
            yield {"event": OUTPUT_KINDS[number], "offset": offset, "data": payload[9:].decode()}
