"""The agent's exec as Python's asyncio does it behind uvicorn: the peer of the benchmark.

Answers POST /v1/exec with {"argv", "cwd", "env"} as JSON, or as a stream of JSON lines with base64
where Accept says application/x-ndjson. Prints {"socket": PATH} once it listens; runs until killed.
"""

import asyncio
import base64
import json
import os
import socket

import uvicorn

READ_SIZE = 64 * 1024


async def read_body(receive):
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return json.loads(body)


async def start(request):
    return await asyncio.create_subprocess_exec(
        *request["argv"],
        cwd=request["cwd"],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/", "LANG": "C.UTF-8", **request["env"]},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )


async def send_head(send, content_type):
    headers = [(b"content-type", content_type)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def buffered(request, send):
    process = await start(request)
    stdout, stderr = await process.communicate()
    reply = {
        "exit_code": process.returncode,
        "stdout": stdout.decode(errors="replace"),
        "stderr": stderr.decode(errors="replace"),
    }
    await send_head(send, b"application/json")
    await send({"type": "http.response.body", "body": json.dumps(reply).encode()})


async def streamed(request, send):
    process = await start(request)
    await send_head(send, b"application/x-ndjson")
    lock = asyncio.Lock()

    async def event(more=True, **fields):
        async with lock:
            line = json.dumps(fields).encode() + b"\n"
            await send({"type": "http.response.body", "body": line, "more_body": more})

    async def pump(name, stream):
        offset = 0
        while data := await stream.read(READ_SIZE):
            await event(event=name, offset=offset, data_base64=base64.b64encode(data).decode())
            offset += len(data)
        return offset

    out, err = await asyncio.gather(pump("stdout", process.stdout), pump("stderr", process.stderr))
    code = await process.wait()
    await event(more=False, event="exited", exit_code=code, stdout_bytes=out, stderr_bytes=err)


async def app(scope, receive, send):
    assert scope["path"] == "/v1/exec", scope["path"]
    lines = (b"accept", b"application/x-ndjson") in scope["headers"]
    request = await read_body(receive)
    await (streamed if lines else buffered)(request, send)


def main():
    path = os.path.abspath("exec_server.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(128)
    print(json.dumps({"socket": path}), flush=True)
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])


main()
