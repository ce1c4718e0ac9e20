"""A git repository over the smart protocol, by git's own CGI program."""

import asyncio
import os
import subprocess
from pathlib import Path

from aiohttp import web

WHO = ["-c", "user.name=Origin", "-c", "user.email=origin@allowed.test"]


class Repository:
    """A bare repository with one commit, made in the working directory."""

    def __init__(self, name):
        work = Path("work")
        work.mkdir()
        (work / "greeting.txt").write_text("hello from a repository\n", encoding="utf-8")
        for line in [["init", "-q"], ["add", "."], [*WHO, "commit", "-q", "-m", "Greet"]]:
            subprocess.run(["git", *line], cwd=work, check=True)
        subprocess.run(["git", "clone", "-q", "--bare", work, name], check=True)
        subprocess.run(["git", "config", "http.receivepack", "true"], cwd=name, check=True)

    async def serve(self, request, path):
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": os.getcwd(),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": request.query_string,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
            "HTTP_GIT_PROTOCOL": request.headers.get("git-protocol", ""),
        }
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            "git", "http-backend", stdin=pipe, stdout=pipe, env=environment
        )
        answer, _ = await process.communicate(await request.read())
        head, _, body = answer.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(fields.pop("Status", "200").split()[0])
        return web.Response(status=status, headers=fields, body=body)

    def routes(self, prefix):
        async def handle(request):
            return await self.serve(request, request.path.removeprefix(prefix + "/git"))

        return [web.route("*", "/git/{path:.*}", handle)]
