"""As much of an API server as the real kubectl needs to read a PodTemplate, to create a pod, to wait for it and to
delete it: discovery of the core group, and a store that makes every pod ready at once.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

VERBS = ["get", "list", "watch", "create", "delete"]
RESOURCES = {"podtemplates": "PodTemplate", "pods": "Pod"}


def discovery():
    """The resources of the core group."""
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1", "resources": [
        {"name": name, "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": VERBS}
        for name, kind in RESOURCES.items()]}


def openapi():
    """Enough of a description for kubectl to leave the judgement of fields to the server."""
    gvk = {"group": "", "version": "v1", "kind": "Pod"}
    parameters = [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}]
    patch = {"x-kubernetes-group-version-kind": gvk, "x-kubernetes-action": "patch", "parameters": parameters,
             "responses": {}}
    return {"openapi": "3.0.0", "info": {"title": "stand-in", "version": "v1"}, "components": {"schemas": {}},
            "paths": {"/api/v1/namespaces/{namespace}/pods/{name}": {"patch": patch}}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def missing(self):
        self.answer({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}, 404)

    def parts(self):
        """(resource, name or nothing) of a path in a namespace."""
        words = urlsplit(self.path).path.strip("/").split("/")
        return (words[4], words[5] if len(words) > 5 else None) if words[:3] == ["api", "v1", "namespaces"] else None

    def do_GET(self):
        path = urlsplit(self.path).path
        if path == "/api":
            self.answer({"kind": "APIVersions", "versions": ["v1"]})
        elif path == "/apis":
            self.answer({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})
        elif path == "/api/v1":
            self.answer(discovery())
        elif path == "/openapi/v3":
            self.answer({"paths": {"api/v1": {"serverRelativeURL": "/openapi/v3/api/v1"}}})
        elif path == "/openapi/v3/api/v1":
            self.answer(openapi())
        elif (parts := self.parts()) and parts[0] in RESOURCES:
            self.read(*parts)
        else:
            self.missing()

    def read(self, resource, name):
        found = [o for o in self.server.store.get(resource, {}).values() if name in (None, o["metadata"]["name"])]
        if name is None:
            # `wait` and `delete` ask for one by a field of a list.
            wanted = self.path.partition("metadata.name%3D")[2].partition("&")[0]
            found = [o for o in found if wanted in ("", o["metadata"]["name"])]
            self.answer({"kind": f"{RESOURCES[resource]}List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"},
                         "items": found})
        elif found:
            self.answer(found[0])
        else:
            self.missing()

    def do_POST(self):
        resource, _ = self.parts()
        o = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        o["metadata"] |= {"uid": "1", "namespace": "sandboxes", "resourceVersion": "1"}
        o["status"] = {"phase": "Running", "podIP": "192.0.2.7", "conditions": [{"type": "Ready", "status": "True"}]}
        self.server.store.setdefault(resource, {})[o["metadata"]["name"]] = o
        self.server.created.append(o)
        self.answer(o, 201)

    def do_DELETE(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        resource, name = self.parts()
        o = self.server.store.get(resource, {}).pop(name, None)
        self.answer(o) if o else self.missing()

    def log_message(self, *_):
        pass


def serve(*objects):
    """A server that holds these objects of the core group; `.url`, `.created`, and `.shutdown()`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.store, server.created = {}, []
    for o in objects:
        resource = next(name for name, kind in RESOURCES.items() if kind == o["kind"])
        server.store.setdefault(resource, {})[o["metadata"]["name"]] = o
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
