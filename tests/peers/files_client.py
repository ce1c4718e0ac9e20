"""A client of the file calls: many writers count in one file without losing a number, and a file is fetched in
ranges. Usage: files_client.py SOCKET"""

import concurrent.futures
import email.utils
import http.client
import socket
import sys

SOCKET = sys.argv[1]
WRITERS, ROUNDS = 4, 25


class Connection(http.client.HTTPConnection):
    """A connection over a Unix socket."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(SOCKET)


def call(method, path, body=None, headers=None):
    connection = Connection("localhost")
    try:
        connection.request(method, "/v1/files/" + path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def count(_writer):
    """Adds one, again and again; a number that somebody else has written meanwhile is read once more."""
    retries = 0
    for _ in range(ROUNDS):
        while True:
            _, headers, content = call("GET", "counter")
            status, _, _ = call("PUT", "counter", b"%d" % (int(content) + 1), {"If-Match": headers["ETag"]})
            if status == 200:
                break
            assert status == 412, status
            retries += 1
    return retries


def counted():
    assert call("PUT", "counter", b"0", {"If-None-Match": "*"})[0] == 201
    with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
        retries = sum(pool.map(count, range(WRITERS)))
    total = int(call("GET", "counter")[2])
    assert total == WRITERS * ROUNDS, f"{total} after {retries} refusals"
    return retries


def fetched():
    content = bytes(range(256)) * 4096
    call("PUT", "large", content)
    _, headers, _ = call("HEAD", "large")
    size, tag = int(headers["Content-Length"]), headers["ETag"]
    pieces = []
    for first in range(0, size, 300_000):
        wanted = {"Range": f"bytes={first}-{first + 299_999}", "If-Range": tag}
        status, headers, piece = call("GET", "large", headers=wanted)
        assert status == 206 and headers["ETag"] == tag, status
        pieces.append(piece)
    assert b"".join(pieces) == content
    # The date of now is too young to be a strong validator; a later one is not the file's.
    later = email.utils.formatdate(email.utils.mktime_tz(email.utils.parsedate_tz(headers["Last-Modified"])) + 5, usegmt=True)
    assert call("GET", "large", headers={"Range": "bytes=0-1", "If-Range": later})[0] == 200
    assert call("GET", "large", headers={"If-Modified-Since": headers["Last-Modified"]})[0] == 304


print(counted(), "refusals")
fetched()
