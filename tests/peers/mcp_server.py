"""An MCP server on the official SDK (streamable HTTP), which records every request's headers.

Prints {"port": N} once it listens, and appends one JSON line a request to record.jsonl.
Options: --port N, --certificate FILE --key FILE (TLS), --sse (event streams instead of JSON answers).
"""

import argparse
import asyncio
import json
import socket

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

server = MCPServer("peer")


@server.tool()
async def greet(name: str) -> str:
    """Greets somebody."""
    return f"hello, {name}"


@server.tool()
async def count(to: int) -> str:
    """Counts slowly, so that its answer is a stream."""
    for _ in range(to):
        await asyncio.sleep(0.01)
    return " ".join(str(number + 1) for number in range(to))


class Recorder:
    """ASGI middleware: writes down what arrives."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
            with open("record.jsonl", "a", encoding="utf-8") as record:
                record.write(json.dumps({"method": scope["method"], "path": scope["path"], "headers": headers}) + "\n")
        await self.app(scope, receive, send)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    options = parser.parse_args()

    # The proxy sends the upstream's real name; which one it is, is the test's affair.
    security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = Recorder(server.streamable_http_app(transport_security=security))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    config = uvicorn.Config(
        app, log_level="warning", ssl_certfile=options.certificate, ssl_keyfile=options.key
    )
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    uvicorn.Server(config).run(sockets=[listener])


main()
