"""Custom resources against their definitions, without an API server: the schema as a structural one is
read there (defaults set, unknown fields refused), then its CEL rules. Rules about a change (`oldSelf`) need
a change and are passed over.
"""

import copy
import functools
import ipaddress
import os
import re
from pathlib import Path

import celpy
import jsonschema
import yaml
from celpy import celtypes

from manifests import REPOSITORY

# The API groups that the Kubernetes schemas do not know.
CUSTOM_GROUPS = {
    "agents.x-k8s.io",
    "autoscaling.x-k8s.io",
    "extensions.agents.x-k8s.io",
    "karpenter.k8s.aws",
    "karpenter.sh",
    "networking.k8s.aws",
    "policy.networking.k8s.io",
}


def directory():
    """Where the definitions are: named by the environment, or beside the repository."""
    return Path(os.environ.get("WORKSPACE_TESTS_CRDS") or REPOSITORY.parent / "shared/crds")


@functools.cache
def definitions():
    """The schema of each served version, by (apiVersion, kind)."""
    found = {}
    for path in sorted(directory().glob("*.yaml")):
        for crd in filter(None, yaml.safe_load_all(path.read_text())):
            spec = crd["spec"]
            for version in spec["versions"]:
                if version["served"]:
                    key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                    found[key] = version["schema"]["openAPIV3Schema"]
    return found


def faults(o):
    """What the API server would refuse about a custom resource, one line each."""
    where = f"{o['kind']}/{o['metadata']['name']}"
    schema = definitions().get((o["apiVersion"], o["kind"]))
    if schema is None:
        return [f"{where}: no pinned definition serves {o['apiVersion']} {o['kind']}"]
    value = with_defaults(schema, copy.deepcopy(o))
    errors = jsonschema.Draft202012Validator(strict(schema, top=True)).iter_errors(value)
    found = [f"{where}: {'/'.join(map(str, error.path))}: {error.message[:300]}" for error in errors]
    # Rules may assume the types that the schema promises.
    return found or [f"{where}: {fault}" for fault, _ in broken_rules(schema, value) if fault]


def rules_checked(o):
    """How many CEL rules were evaluated on an object."""
    schema = definitions()[o["apiVersion"], o["kind"]]
    return sum(1 for _ in broken_rules(schema, with_defaults(schema, copy.deepcopy(o))))


def with_defaults(schema, value):
    """The value as the API server stores it: defaults where nothing is said."""
    if isinstance(value, dict):
        for name, child in schema.get("properties", {}).items():
            if name not in value and "default" in child:
                value[name] = copy.deepcopy(child["default"])
    for child, inner, _ in children(schema, value):
        with_defaults(child, inner)
    return value


def strict(schema, top=False):
    """The schema in JSON Schema's words, with unknown fields refused as `--validate=strict` does."""
    result = {key: schema[key] for key in KEPT if key in schema}
    if schema.get("x-kubernetes-int-or-string"):
        result["type"] = ["integer", "string"]
        result.pop("anyOf", None)
    if "properties" in schema:
        result["properties"] = {name: strict(child) for name, child in schema["properties"].items()}
        result["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    if isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = strict(schema["additionalProperties"])
    if "items" in schema:
        result["items"] = strict(schema["items"])
    if top:
        result["properties"]["metadata"] = {"type": "object"}
    return result


# Keywords that mean the same in both; the API server matches patterns anywhere, as JSON Schema does.
KEPT = ("type", "enum", "required", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems",
        "maxItems", "minProperties", "maxProperties", "uniqueItems", "anyOf", "oneOf", "allOf", "not")


def children(schema, value):
    """The parts of a value that have a schema of their own, with their place."""
    if isinstance(value, dict):
        extra = schema.get("additionalProperties")
        for name, inner in value.items():
            child = schema.get("properties", {}).get(name, extra)
            if isinstance(child, dict):
                yield child, inner, name
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for number, inner in enumerate(value):
            yield schema["items"], inner, number


def broken_rules(schema, value, path=""):
    """Each rule that was evaluated, as (fault or None, rule)."""
    for rule in schema.get("x-kubernetes-validations", []):
        if "oldSelf" not in rule["rule"]:
            holds = evaluate(rule["rule"], {"self": value})
            yield (None if holds else f"{path or '.'}: {rule.get('message', rule['rule'])}"), rule["rule"]
    for child, inner, name in children(schema, value):
        yield from broken_rules(child, inner, f"{path}/{name}")


def is_cidr(text):
    """Whether the text is a network, as Kubernetes' CEL library says."""
    try:
        ipaddress.ip_network(str(text))
    except ValueError:
        return celtypes.BoolType(False)
    return celtypes.BoolType("/" in str(text))


def find(text, pattern):
    """The first match of a pattern, or nothing."""
    match = re.search(str(pattern), str(text))
    return celtypes.StringType(match.group(0) if match else "")


def split(text, separator):
    """The parts of a text."""
    return celtypes.ListType([celtypes.StringType(part) for part in str(text).split(str(separator))])


FUNCTIONS = {"isCIDR": is_cidr, "find": find, "split": split}


@functools.cache
def program(expression):
    """A CEL expression, ready to be evaluated."""
    environment = celpy.Environment()
    return environment.program(environment.compile(expression), functions=FUNCTIONS)


def evaluate(expression, variables):
    """A CEL expression that has to give a boolean. An error in it is an error here."""
    result = program(expression).evaluate({name: celpy.json_to_cel(value) for name, value in variables.items()})
    assert isinstance(result, celtypes.BoolType), f"{expression}: {result}"
    return bool(result)
