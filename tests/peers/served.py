"""A server as somebody in a workspace would write one: HTTP/1.1, an event stream, a WebSocket.

Usage: served.py ADDRESS PORT. It says so in JSON when it listens.
"""

import http.server
import json
import socket
import sys
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    go_on = threading.Event()

    def log_message(self, *_):
        pass

    def answer(self):
        path = self.path.split("?")[0]
        if path == "/events":
            self.events()
        elif path == "/go-on":
            self.go_on.set()
            self.reply({})
        elif path == "/socket":
            self.socket()
        elif path == "/nonsense":
            self.wfile.write(b"no HTTP at all\r\n\r\n")
            self.close_connection = True
        elif path == "/unasked":
            self.wfile.write(b"HTTP/1.1 101 Odd\r\nConnection: Upgrade\r\nUpgrade: odd\r\n\r\n")
            self.close_connection = True
        else:
            length = int(self.headers.get("Content-Length") or 0)
            self.reply({
                "method": self.command,
                "path": self.path,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "body": self.rfile.read(length).decode(),
            })

    do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = answer

    def reply(self, content):
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Workspace-Port", "1")
        self.send_header("Keep-Alive", "timeout=5")
        self.end_headers()
        self.wfile.write(body)

    def events(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in [b"data: first\n\n", b"data: second\n\n"]:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()
            # The second event comes only when the client, who has the first one, has asked for it.
            self.go_on.wait()
        self.wfile.write(b"0\r\n\r\n")

    def socket(self):
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", self.headers["Upgrade"])
        self.send_header("Sec-WebSocket-Accept", "of " + self.headers["Sec-WebSocket-Key"])
        self.end_headers()
        while line := self.rfile.readline():
            self.wfile.write(line.upper())
            self.wfile.flush()
        self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET


server = Server((sys.argv[1], int(sys.argv[2])), Handler)
print(json.dumps({"port": server.server_port}), flush=True)
server.serve_forever()
