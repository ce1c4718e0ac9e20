"""What lasts: an event stream that waits for its reader, and a WebSocket that answers in capitals."""

import asyncio
from collections import defaultdict

from aiohttp import WSMsgType, web

# By the name of the stream: whether its reader has confirmed the first event.
confirmed = defaultdict(asyncio.Event)


async def events(request):
    """Sends its second event only when the first was confirmed: a proxy that collects would hang."""
    stream = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await stream.prepare(request)
    await stream.write(b"data: first\n\n")
    await confirmed[request.match_info["name"]].wait()
    await stream.write(b"data: second\n\n")
    await stream.write_eof()
    return stream


async def confirm(request):
    confirmed[request.match_info["name"]].set()
    return web.Response(text="confirmed\n")


async def capitals(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type == WSMsgType.TEXT:
            await socket.send_str(message.data.upper())
    return socket


def routes():
    return [
        web.get("/events/{name}", events),
        web.get("/confirm/{name}", confirm),
        web.get("/socket", capitals),
    ]
