"""A web server on h11 that writes down how it understood each request, and answers "ok".

Options: --address IP, --port N. Prints {"port": N}; appends one JSON line a request to record.jsonl.
"""

import argparse
import json
import socket
import threading

import h11

def note(line):
    with open("record.jsonl", "a", encoding="utf-8") as record:
        record.write(json.dumps(line) + "\n")


class Conversation:
    """One connection."""

    def __init__(self, stream):
        self.stream, self.http = stream, h11.Connection(h11.SERVER)

    def next_event(self):
        while (event := self.http.next_event()) is h11.NEED_DATA:
            if self.http.they_are_waiting_for_100_continue:
                self.send(h11.InformationalResponse(status_code=100, headers=[]))
            self.http.receive_data(self.stream.recv(65536))
        return event

    def send(self, *events):
        self.stream.sendall(b"".join(self.http.send(event) or b"" for event in events))

    def one_request(self):
        """False at the end of the connection."""
        request, body = self.next_event(), b""
        if not isinstance(request, h11.Request):
            return False
        while isinstance(event := self.next_event(), h11.Data):
            body += event.data
        if not isinstance(event, h11.EndOfMessage):
            return False
        headers = [[name.decode(), value.decode("latin-1")] for name, value in request.headers]
        note(
            {
                "method": request.method.decode(),
                "target": request.target.decode(),
                "headers": headers,
                "body": body.decode("latin-1"),
            }
        )
        content = [] if request.method == b"HEAD" else [h11.Data(data=b"ok")]
        head = h11.Response(status_code=200, headers=[("content-length", "2")])
        self.send(head, *content, h11.EndOfMessage())
        if self.http.our_state is h11.MUST_CLOSE:
            return False
        self.http.start_next_cycle()
        return True

    def run(self):
        try:
            while self.one_request():
                pass
        except h11.RemoteProtocolError as error:
            note({"refused": str(error)})
        except OSError:
            pass  # the proxy may leave at any time
        finally:
            self.stream.close()


parser = argparse.ArgumentParser()
parser.add_argument("--address", required=True)
parser.add_argument("--port", type=int, required=True)
options = parser.parse_args()
listener = socket.create_server((options.address, options.port))
print(json.dumps({"port": options.port}), flush=True)
while True:
    threading.Thread(target=Conversation(listener.accept()[0]).run, daemon=True).start()
