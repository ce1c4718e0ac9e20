"""STS by moto, and an upstream in the place of Amazon Bedrock that verifies every signature with
botocore: it recomputes the SigV4 signature with the secret that belongs to the access key, and checks
the session token and the body's hash.

Prints {"port": N, "sts_port": N} once it listens, and appends one JSON line a request to record.jsonl
with "verdict": "ok" or the reason of the refusal. Refused requests get 403.
Options: --certificate FILE --key FILE (TLS), --static ID:SECRET (a key pair besides those that STS
handed out).
"""

import argparse
import hashlib
import http.server
import json
import ssl
import urllib.parse

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.server import ThreadedMotoServer
from moto.sts.models import sts_backends

STATIC = {}


def credentials_of(access_key):
    """The credentials that go with an access key: given at start, or handed out by moto."""
    if access_key in STATIC:
        return Credentials(access_key, STATIC[access_key])
    for account in sts_backends.values():
        for backend in account.values():
            for role in backend.assumed_roles:
                if role.access_key_id == access_key:
                    return Credentials(access_key, role.secret_access_key, role.session_token)
    return None


def authorization_fields(headers):
    """Credential, SignedHeaders and Signature of the Authorization header."""
    values = headers.get_all("authorization") or []
    if len(values) != 1 or not values[0].startswith("AWS4-HMAC-SHA256 "):
        raise ValueError(f"not signed: {len(values)} authorization headers")
    fields = values[0].removeprefix("AWS4-HMAC-SHA256 ").split(",")
    return dict(field.strip().split("=", 1) for field in fields)


def verify(method, url, headers, body):
    """Raises ValueError with the reason when the request is not signed as AWS wants it."""
    fields = authorization_fields(headers)
    access_key, date, region, service, end = fields["Credential"].split("/")
    if end != "aws4_request" or not headers.get("x-amz-date", "").startswith(date):
        raise ValueError("the scope and x-amz-date do not agree")
    credentials = credentials_of(access_key)
    if credentials is None:
        raise ValueError(f"nobody handed out the key {access_key}")
    if headers.get("x-amz-security-token") != credentials.token:
        raise ValueError("the session token is not the key's")
    signed = fields["SignedHeaders"].split(";")
    if "host" not in signed or (credentials.token and "x-amz-security-token" not in signed):
        raise ValueError(f"host or token unsigned: {signed}")
    claimed = headers.get("x-amz-content-sha256")
    if claimed is not None and claimed != hashlib.sha256(body).hexdigest():
        raise ValueError("the body is not the one that was hashed")

    request = AWSRequest(method=method, url=url, data=body)
    for name in signed:
        request.headers[name] = ",".join(headers.get_all(name) or [])
    request.context["timestamp"] = headers["x-amz-date"]
    auth = SigV4Auth(credentials, service, region)
    text = auth.string_to_sign(request, auth.canonical_request(request))
    if auth.signature(text, request) != fields["Signature"]:
        raise ValueError("the signature is not what botocore computes:\n" + auth.canonical_request(request))
    return {"access_key": access_key, "region": region, "service": service}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        url = f"https://{self.headers['host']}{self.path}"
        record = {"path": self.path, "headers": self.headers.items(), "verdict": "ok"}
        try:
            record.update(verify(self.command, url, self.headers, body))
        except (ValueError, KeyError) as error:
            record["verdict"] = str(error) or repr(error)
        with open("record.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        status = 200 if record["verdict"] == "ok" else 403
        path = urllib.parse.unquote(self.path)
        answer = json.dumps({"verdict": record["verdict"], "path": path, "bytes": len(body)}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--static")
    options = parser.parse_args()
    if options.static:
        access_key, secret = options.static.split(":", 1)
        STATIC[access_key] = secret

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    ports = {"port": server.server_address[1], "sts_port": moto.get_host_and_port()[1]}
    print(json.dumps(ports), flush=True)
    server.serve_forever()


main()
