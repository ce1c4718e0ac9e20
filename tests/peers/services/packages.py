"""A Python index and an npm registry with one small package each, made in memory."""

import base64
import hashlib
import io
import json
import tarfile
import zipfile

from aiohttp import web

WHEEL = "greeting_package-1.0-py3-none-any.whl"
TARBALL = "greeting-package-1.0.0.tgz"
METADATA = "Metadata-Version: 2.1\nName: greeting-package\nVersion: 1.0\n"


def wheel():
    made, info = io.BytesIO(), "greeting_package-1.0.dist-info"
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("greeting_package.py", "GREETING = 'hello from a wheel'\n")
        archive.writestr(f"{info}/METADATA", METADATA)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return made.getvalue()


def tarball():
    made = io.BytesIO()
    files = {
        "package/package.json": json.dumps({"name": "greeting-package", "version": "1.0.0"}),
        "package/index.js": "module.exports = 'hello from a tarball'\n",
    }
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return made.getvalue()


def document(base, content):
    """What the registry says about the package. Addresses in it are whole ones."""
    dist = {
        "tarball": f"{base}/npm/-/{TARBALL}",
        "integrity": "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode(),
    }
    version = {"name": "greeting-package", "version": "1.0.0", "dist": dist}
    return {"name": "greeting-package", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}


def routes(base):
    """`base` is where clients reach these."""
    python, node = wheel(), tarball()
    page = f'<a href="../../files/{WHEEL}#sha256={hashlib.sha256(python).hexdigest()}">{WHEEL}</a>'

    async def index(_request):
        return web.Response(text=page, content_type="text/html")

    async def python_file(_request):
        return web.Response(body=python, content_type="application/zip")

    async def registry(_request):
        return web.json_response(document(base, node))

    async def node_file(_request):
        return web.Response(body=node, content_type="application/octet-stream")

    return [
        web.get("/simple/greeting-package/", index),
        web.get(f"/files/{WHEEL}", python_file),
        web.get("/npm/greeting-package", registry),
        web.get(f"/npm/-/{TARBALL}", node_file),
    ]
