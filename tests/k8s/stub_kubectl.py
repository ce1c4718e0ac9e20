#!/usr/bin/env python3
"""A kubectl that answers from a rendered overlay (STUB_OVERLAY) and writes down what it was asked (STUB_RECORD):
for manage.sh, which needs few verbs. What it does not know is an error. Commands that it is to run in a pod it
prints, and it repeats their standard input.
"""

import json
import os
import sys

import yaml


def option(words, name):
    """The value of `--name value` or `--name=value`."""
    for place, word in enumerate(words):
        if word == name:
            return words[place + 1]
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None


def template():
    with open(os.environ["STUB_OVERLAY"]) as file:
        (found,) = [o for o in yaml.safe_load_all(file) if o["kind"] == "PodTemplate"]
    return found["template"]


def answer(words, stdin):
    """What is printed, and the exit code."""
    path = option(words, "--output") or ""
    match words[2:]:
        case ["get", "podtemplate", "workspace", *_]:
            value = template()
            for key in path.removeprefix("jsonpath={.template.").removesuffix("}").split("."):
                value = value.get(key, {}) if value else value
            # As kubectl does: nothing at all for what is not there.
            return json.dumps(value) if value else "", 0
        case ["get", "pod", _, *_] if path == "jsonpath={.status.podIP}":
            return os.environ.get("STUB_ADDRESS", "192.0.2.7"), 0
        case ["get", "pod", _, *_] if path == "jsonpath={.status.phase}":
            return "Running", 0
        case ["get", "pod" | "pods", *_]:
            return "NAME READY\n", 0
        case ["create", "--filename", "-"]:
            return "created\n", int(os.environ.get("STUB_CREATE", "0"))
        case ["wait", *_]:
            return "", int(os.environ.get("STUB_WAIT", "0"))
        case ["logs", *_]:
            return f"log of {option(words, '--container')}\n", 0
        case ["delete", "pod", *_]:
            return "deleted\n", 0
        case ["exec", "--stdin", "orchestrator", "--", *command]:
            return f"ran {json.dumps(command)} with {json.dumps(stdin)}\n", int(os.environ.get("STUB_EXEC", "0"))
    raise SystemExit(f"stub kubectl: unexpected {words}")


def main():
    words = sys.argv[1:]
    reads = words[2:3] in (["create"], ["exec"])
    stdin = sys.stdin.read() if reads else ""
    with open(os.environ["STUB_RECORD"], "a") as record:
        record.write(json.dumps({"words": words, "stdin": stdin}) + "\n")
    text, code = answer(words, stdin)
    sys.stdout.write(text)
    sys.exit(code)


main()
