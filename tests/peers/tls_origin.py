"""A TLS web server on the Python standard library: answers every GET with its path and the SNI name.

Prints {"port": N} once it listens. Options: --certificate FILE --key FILE.
"""

import argparse
import http.server
import json
import ssl


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"tls {self.headers['host']} {self.path}\n".encode()
        with open("record.jsonl", "a", encoding="utf-8") as record:
            record.write(json.dumps({"path": self.path, "headers": self.headers.items()}) + "\n")
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


parser = argparse.ArgumentParser()
parser.add_argument("--certificate", required=True)
parser.add_argument("--key", required=True)
options = parser.parse_args()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(options.certificate, options.key)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(json.dumps({"port": server.server_address[1]}), flush=True)
server.serve_forever()
