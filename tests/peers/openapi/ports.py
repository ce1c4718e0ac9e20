"""Servers of commands, reached through the agent."""

from caller import eventually
from document import ANY
from processes import end

SERVER = "from http.server import *; HTTPServer(('127.0.0.1', 3000), SimpleHTTPRequestHandler).serve_forever()"
BROKEN = (
    "import socket; s = socket.create_server(('127.0.0.1', 3001))\n"
    "while True: c = s.accept()[0]; c.recv(9999); c.sendall(b'no HTTP\\r\\n\\r\\n'); c.close()"
)


def called(caller, own_port):
    target = {"path": ""}
    caller.call("callPort", (502, "port_unreachable"), port="3000", **target)
    for identity, source in (("server", SERVER), ("broken", BROKEN)):
        caller.call("startProcess", 201, {"id": identity, "argv": ["python3", "-c", source]})
    for port in ("3000", "3001"):
        eventually(lambda: caller.status(f"/v1/ports/{port}/") in (200, 502) and listens(caller, port))
    caller.call("callPort", (200, ANY), port="3000", **target)
    caller.call("callPort", (502, "port_broken"), port="3001", **target)
    caller.call("callPort", (400, "bad_port"), port="70000", **target)
    caller.call("callPort", (403, "port_closed"), port=own_port, **target)
    for identity in ("server", "broken"):
        end(caller, identity)


def listens(caller, port):
    """Whether somebody accepts connections there, seen from the workspace."""
    probe = f"import socket; socket.create_connection(('127.0.0.1', {port}))"
    return caller.call("exec", 200, {"argv": ["python3", "-c", probe]})["exit_code"] == 0
