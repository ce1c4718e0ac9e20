"""Makes the calls of a walk and holds every answer against the document."""

import contextlib
import http.client
import json
import socket
import time
import urllib.parse

from document import JSON

DEADLINE = 30

# What a test cannot bring about, or not in reasonable time.
OUT_OF_REACH = {
    "internal": "a fault of the agent",
    "io_error": "a fault of the disk",
    "no_space": "a disk that is full",
    "too_large": "a file system with a small limit",
    "too_many_open_files": "an agent without descriptors",
    "no_terminal": "a machine without terminals",
    "spool_failed": "a directory for output that is full",
    "no_resources": "a machine without processes or memory",
    "read_only": "a file system that is mounted read-only",
    "upload_stalled": "two minutes",
    "archive_too_large": "two million members",
    "too_many_port_requests": "256 servers that let wait",
    "port_timeout": "five minutes",
}
# An answer to HEAD has no body, and so no code: these are the statuses of such.
HEAD_OUT_OF_REACH = {500, 503}


class Caller:
    """A client of one agent that remembers what it has seen."""

    def __init__(self, document, port, token):
        self.document, self.port, self.token = document, port, token
        self.seen = set()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def open(self):
        return contextlib.closing(self.connect())

    def target(self, operation, path, query):
        method, template, _ = self.document.operations[operation]
        target = template.format_map({k: urllib.parse.quote(v, safe="/") for k, v in path.items()})
        return method, target + (f"?{query}" if query else "")

    def call(self, operation, expected, body=None, query="", headers=None, **path):
        """Makes a call, holds the answer against the document, and gives its body.

        `expected` is a status, or a status and the code or media type.
        """
        method, target = self.target(operation, path, query)
        body = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        headers = {"Authorization": f"Bearer {self.token}"} | (headers or {})
        with self.open() as connection:
            connection.request(method, target, body, headers)
            return self.answer(operation, expected, connection.getresponse())

    def answer(self, operation, expected, response):
        body = response.read()
        what = self.document.check(operation, response.status, response.headers, body)
        self.seen.add((operation, response.status, what))
        got = response.status if isinstance(expected, int) else (response.status, what)
        assert got == expected, f"{operation}: {got} instead of {expected}: {body[:500]}"
        return json.loads(body) if what == JSON else body

    def head(self, operation, fields, query="", path=None):
        """The head of a request, with these header fields."""
        method, target = self.target(operation, path or {}, query)
        token = f"Authorization: Bearer {self.token}"
        return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: a", token, *fields, "", ""]).encode()

    def raw(self, operation, expected, head, body=b"", query="", **path):
        """The same with header fields that no well-behaved client sends."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(self.head(operation, head, query, path) + body)
            method = self.document.operations[operation][0]
            response = http.client.HTTPResponse(connection, method=method)
            response.begin()
            return self.answer(operation, expected, response)

    def status(self, target):
        """The status of a GET alone, to wait for."""
        with self.open() as connection:
            connection.request("GET", target, headers={"Authorization": f"Bearer {self.token}"})
            return connection.getresponse().status

    def unseen(self):
        """What is described, was not seen, and could have been."""
        expected = {
            (operation, status, what)
            for operation, status, what in self.document.outcomes()
            if what not in OUT_OF_REACH and not (what is None and status in HEAD_OUT_OF_REACH)
        }
        return sorted(expected - self.seen, key=str)


def eventually(ask):
    """Asks until there is an answer."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if answer := ask():
            return answer
        time.sleep(0.01)
    raise AssertionError("waited in vain")
