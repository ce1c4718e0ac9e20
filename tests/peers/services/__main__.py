"""A web server for the matrix of clients, on aiohttp: everything twice, in the open and behind a secret.

Listens on ports 80 and 443 (TLS) of 127.0.0.1, prints {"port": 443} once it does, and appends one JSON
line a request to record.jsonl. What is served at /hello is served at /v1/hello as well, to requests with
the secret in `Authorization`. Options: --certificate FILE --key FILE, --secret VALUE, --behind URL (how
clients reach /v1, for documents that name whole addresses).
"""

import argparse
import asyncio
import json
import ssl

import live
import packages
from aiohttp import web
from repository import Repository


def options():
    parser = argparse.ArgumentParser()
    for name in ["--certificate", "--key", "--secret", "--behind"]:
        parser.add_argument(name, required=True)
    return parser.parse_args()


def guard(secret):
    @web.middleware
    async def middleware(request, handler):
        with open("record.jsonl", "a", encoding="utf-8") as record:
            record.write(json.dumps({"method": request.method, "path": request.path}) + "\n")
        if request.path.startswith("/v1/") and request.headers.getall("authorization", []) != [secret]:
            return web.Response(status=401, text="this part wants its secret")
        return await handler(request)

    return middleware


async def hello(_request):
    return web.Response(text="hello from the origin\n")


async def main(arguments):
    app = web.Application(middlewares=[guard(arguments.secret)])
    repository = Repository("repository.git")
    for prefix, base in [("", "https://allowed.test"), ("/v1", arguments.behind)]:
        routes = [
            web.get("/hello", hello),
            *live.routes(),
            *packages.routes(base),
            *repository.routes(prefix),
        ]
        app.add_routes([web.route(r.method, prefix + r.path, r.handler) for r in routes])
    runner = web.AppRunner(app)
    await runner.setup()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(arguments.certificate, arguments.key)
    await web.TCPSite(runner, "127.0.0.1", 80).start()
    await web.TCPSite(runner, "127.0.0.1", 443, ssl_context=tls).start()
    print(json.dumps({"port": 443}), flush=True)
    await asyncio.Event().wait()


asyncio.run(main(options()))
