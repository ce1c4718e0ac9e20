"""One request by one of Python's HTTP libraries, as a program would make it: proxy and CA by environment.

client.py LIBRARY get URL: prints the answer.
client.py LIBRARY events URL: reads an event stream; confirms its first event before it waits for the next.
client.py LIBRARY socket URL: says something on a WebSocket and prints the reply.
Ends with 1 where the status is no success or the library gave up.
"""

import asyncio
import os
import ssl
import sys
import urllib.request
from urllib.parse import urlsplit

TIMEOUT = 30


async def requests_lines(url):
    import requests

    answer = requests.get(url, stream=True, timeout=TIMEOUT)
    yield answer.status_code
    for line in answer.iter_lines(chunk_size=1):
        yield line.decode()


async def httpx_lines(url):
    import httpx

    with httpx.stream("GET", url, timeout=TIMEOUT) as answer:
        yield answer.status_code
        for line in answer.iter_lines():
            yield line


async def urllib3_lines(url):
    import urllib3

    parts = urlsplit(url)
    trust = {"ca_certs": os.environ["SSL_CERT_FILE"]}
    if urllib.request.proxy_bypass(parts.netloc):
        pool = urllib3.PoolManager(**trust)
    else:
        pool = urllib3.ProxyManager(urllib.request.getproxies()[parts.scheme], **trust)
    answer = pool.request("GET", url, preload_content=False, retries=False, timeout=TIMEOUT)
    yield answer.status
    for line in answer:
        yield line.decode().rstrip("\n")


async def urllib_lines(url):
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        yield answer.status
        for line in answer:
            yield line.decode().rstrip("\n")


async def aiohttp_lines(url):
    import aiohttp

    async with aiohttp.ClientSession(trust_env=True) as session, session.get(url) as answer:
        yield answer.status
        async for line in answer.content:
            yield line.decode().rstrip("\n")


async def aiohttp_socket(url):
    import aiohttp

    async with aiohttp.ClientSession(trust_env=True) as session, session.ws_connect(url) as socket:
        await socket.send_str("hello")
        return await socket.receive_str(timeout=TIMEOUT)


async def websockets_socket(url):
    import websockets

    # TLS as the platform has it; the library takes the proxy from the environment.
    tls = {"ssl": ssl.create_default_context()} if url.startswith("wss:") else {}
    async with websockets.connect(url, **tls) as socket:
        await socket.send("hello")
        return await asyncio.wait_for(socket.recv(), TIMEOUT)


def confirm(url):
    with urllib.request.urlopen(url.replace("/events/", "/confirm/"), timeout=TIMEOUT) as answer:
        answer.read()


async def main(library, action, url):
    if action == "socket":
        print(await globals()[f"{library}_socket"](url))
        return 0
    lines = globals()[f"{library}_lines"](url)
    status = await anext(lines)
    print("status", status)
    async for line in lines:
        print(line)
        if action == "events" and line == "data: first":
            confirm(url)
    return 0 if status < 400 else 1


try:
    sys.exit(asyncio.run(main(*sys.argv[1:])))
except Exception as error:  # whatever the library throws is what its user sees
    sys.exit(f"{type(error).__module__}.{type(error).__name__}: {error}")
