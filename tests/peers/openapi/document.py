"""docs/openapi.yaml as something to hold answers against."""

import json
import struct

import yaml
from jsonschema import Draft202012Validator

JSON = "application/json"
NDJSON = "application/x-ndjson"
FRAMES = "application/vnd.workspace.frames"
PROBLEM = "application/problem+json"
OCTETS = "application/octet-stream"
TAR = "application/x-tar"
ANY = "*/*"
METHODS = ("get", "head", "put", "post", "delete")
OUTPUT_KINDS = {1: "stdout", 2: "stderr", 3: "pty"}


class Document:
    """The parsed page: its operations by name, and validators of its schemas."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.page = yaml.safe_load(file)
        self.operations = {}
        for template, item in self.page["paths"].items():
            for method in METHODS:
                if method in item:
                    operation = item[method]
                    self.operations[operation["operationId"]] = (method.upper(), template, operation)

    def resolve(self, node):
        """What a reference stands for."""
        while "$ref" in node:
            target = self.page
            for key in node["$ref"].removeprefix("#/").split("/"):
                target = target[key]
            node = target
        return node

    def validate(self, schema, value):
        """Raises jsonschema.ValidationError where a value is not as described."""
        Draft202012Validator({"components": self.page["components"], **schema}).validate(value)

    def response(self, operation, status):
        """What is said of a status of an operation."""
        responses = self.operations[operation][2]["responses"]
        assert str(status) in responses, f"{operation} answered {status}, which is not described"
        return self.resolve(responses[str(status)])

    def outcomes(self):
        """Everything that is described: (operation, status, code or media type)."""
        for operation, (_, _, described) in self.operations.items():
            for status, response in described["responses"].items():
                content = self.resolve(response).get("content", {None: None})
                for media_type in content:
                    if media_type == PROBLEM:
                        for code in codes(content[media_type]["schema"]):
                            yield operation, int(status), code
                    else:
                        yield operation, int(status), media_type

    def check(self, operation, status, headers, body):
        """Holds a whole answer against what is described, and gives its code or media type."""
        described = self.response(operation, status)
        for name, header in described.get("headers", {}).items():
            value = headers.get(name)
            assert value is not None or not header.get("required"), f"{operation}: no {name}"
            if value is not None:
                schema = header["schema"]
                self.validate(schema, int(value) if schema.get("type") == "integer" else value)
        content = described.get("content")
        if content is None:
            assert not body, f"{operation} {status} has a body: {body[:100]}"
            return None
        media_type = headers.get("content-type")
        if ANY in content:
            return ANY
        assert media_type in content, f"{operation} {status}: {media_type} is not described"
        self.check_body(content[media_type], media_type, body)
        return json.loads(body)["code"] if media_type == PROBLEM else media_type

    def check_body(self, described, media_type, body):
        if media_type == NDJSON:
            assert body.endswith(b"\n"), body[-100:]
            for line in body.splitlines():
                self.validate(described["x-itemSchema"], json.loads(line))
        elif media_type == FRAMES:
            for event in frames(body):
                self.validate(described["x-itemSchema"], event)
        elif media_type.endswith("json"):
            self.validate(described["schema"], json.loads(body))


def codes(schema):
    """The codes of a problem, from the second half of its schema."""
    code = schema["allOf"][1]["properties"]["code"]
    return code.get("enum") or [code["const"]]


def frames(body):
    """The events of a body in frames; output as the event that it stands for."""
    while body:
        kind, length = struct.unpack(">BI", body[:5])
        payload, body = body[5 : 5 + length], body[5 + length :]
        assert len(payload) == length, "a frame is cut"
        if kind == 0:
            yield json.loads(payload)
        else:
            (offset,) = struct.unpack(">Q", payload[:8])
            yield {"event": OUTPUT_KINDS[kind], "offset": offset, "data": payload[8:].decode("latin-1")}
