"""The client's side of a WebSocket (RFC 6455), as little of it as a walk needs."""

import os
import struct

CONTINUED, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
HANDSHAKE = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]
# What section 1.3 of the RFC computes from the key.
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


class WebSocket:
    """Both directions, once the connection has been upgraded; `reader` is buffered, `connection` a socket."""

    def __init__(self, connection, reader):
        self.connection, self.reader = connection, reader

    def send(self, kind, payload):
        """Sends one message, masked as a client has to."""
        mask = os.urandom(4)
        length = len(payload)
        size = bytes([0x80 | length]) if length < 126 else b"\xfe" + struct.pack(">H", length)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        self.connection.sendall(bytes([0x80 | kind]) + size + mask + masked)

    def receive(self):
        """The next message: its kind and its payload."""
        while True:
            first, length = self.exactly(2)
            assert not length & 0x80, "a server does not mask"
            if length == 126:
                (length,) = struct.unpack(">H", self.exactly(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self.exactly(8))
            payload = self.exactly(length)
            assert first & 0x80 and first & 0x0F != CONTINUED, "the agent does not fragment"
            if first & 0x0F not in (PING, PONG):
                return first & 0x0F, payload

    def exactly(self, length):
        data = self.reader.read(length)
        assert len(data) == length, "the connection was cut"
        return data
