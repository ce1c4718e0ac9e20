"""An orchestrator's use of exec, with nothing but the Python standard library over a Unix socket.

Usage: exec_driver.py SOCKET. Exits non-zero with a traceback when an answer is not as promised.
"""

import http.client
import json
import socket
import sys


class UnixConnection(http.client.HTTPConnection):
    """http.client over a Unix domain socket."""

    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self.path)


def call(connection, method, path, body=None, accept="application/json"):
    headers = {"Accept": accept}
    if body is not None:
        body, headers["Content-Type"] = json.dumps(body), "application/json"
    connection.request(method, path, body, headers)
    return connection.getresponse()


def buffered(connection):
    """One kept-alive connection serves many commands."""
    for number in range(20):
        answer = call(connection, "POST", "/v1/exec", {"shell": f"echo {number}; echo err >&2; exit {number}"})
        assert answer.status == 200, answer.status
        reply = json.loads(answer.read())
        assert reply["exit_code"] == number, reply
        assert reply["stdout"] == f"{number}\n" and reply["stderr"] == "err\n", reply
        assert reply["timed_out"] is False and reply["signal"] is None, reply


def streamed(connection):
    """Events arrive line by line, and the last one says how it ended."""
    answer = call(connection, "POST", "/v1/exec", {"shell": "for i in 1 2 3; do echo line $i; done"},
                  "application/x-ndjson")
    assert answer.status == 200, answer.status
    events = [json.loads(line) for line in answer]
    assert events[0]["event"] == "started" and events[-1]["event"] == "exited", events
    output = "".join(event["data"] for event in events if event["event"] == "stdout")
    assert output == "line 1\nline 2\nline 3\n", events
    assert events[-1]["exit_code"] == 0, events


def files(connection):
    """A file goes in, a command reads it, and it comes out again."""
    data = bytes(range(256)) * 64
    connection.request("PUT", "/v1/files/dir/data.bin", data)
    answer = connection.getresponse()
    assert answer.status in (200, 201), (answer.status, answer.read())
    assert json.loads(answer.read())["size"] == len(data)
    reply = json.loads(call(connection, "POST", "/v1/exec", {"argv": ["wc", "-c", "dir/data.bin"]}).read())
    assert reply["stdout"].split()[0] == str(len(data)), reply
    answer = call(connection, "GET", "/v1/files/dir/data.bin")
    assert answer.read() == data


connection = UnixConnection(sys.argv[1])
buffered(connection)
streamed(connection)
files(connection)
print("driven")
