"""The manifests under test: rendering them with kubectl's kustomize, and finding one's way in them."""

import copy
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
K8S = REPOSITORY / "k8s"
NODE = K8S / "cluster/node"

# What is applied to a cluster, each with what it promises.
OVERLAYS = ("local", "local-gvisor", "eks")
GVISOR_OVERLAYS = ("local-gvisor", "eks")
# Overlays whose images are built on the developer's own machine.
DEV_OVERLAYS = ("local", "local-gvisor")
CLUSTER = (
    "cluster",
    "cluster/admission/base",
    "cluster/admission/production",
    "cluster/karpenter",
    "cluster/network/aws",
    "cluster/network/upstream",
    "cluster/image-prepull",
    "cluster/capacity-fallback",
)
EVERYTHING = tuple(f"overlays/{name}" for name in OVERLAYS) + CLUSTER


def kubectl():
    """The kubectl of the tests' environment, or the machine's own."""
    beside = Path(sys.executable).with_name("kubectl")
    found = os.environ.get("WORKSPACE_TESTS_KUBECTL") or (beside if beside.exists() else shutil.which("kubectl"))
    assert found, "no kubectl: make test-deps brings one on amd64"
    return str(found)


def kustomize(directory):
    """What `kubectl apply -k` would apply, as text."""
    run = subprocess.run([kubectl(), "kustomize", str(directory)], capture_output=True, text=True)
    assert run.returncode == 0, f"{directory} does not render:\n{run.stderr}"
    return run.stdout


@functools.cache
def _rendered(name):
    return tuple(yaml.safe_load_all(kustomize(K8S / name)))


def render(name):
    """The objects of one directory below k8s/, free to be changed by the caller."""
    return copy.deepcopy(list(_rendered(name)))


def example_claim():
    """The claim that is shown to platform engineers."""
    return yaml.safe_load((K8S / "agent-sandbox/claim.example.yaml").read_text())


def of_kind(objects, kind, name=None):
    """The objects of a kind, or of a kind and name."""
    return [o for o in objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]


def one(objects, kind, name):
    """The one object of this kind and name."""
    found = of_kind(objects, kind, name)
    assert len(found) == 1, f"{len(found)} objects {kind} {name}"
    return found[0]


def template(objects):
    """The pod of the one PodTemplate: `metadata` and `spec`."""
    return one(objects, "PodTemplate", "workspace")["template"]


def containers(spec):
    """All containers of a pod, init containers first."""
    return spec.get("initContainers", []) + spec["containers"]


def container(pod, name):
    """The container of this name."""
    return next(c for c in containers(pod["spec"]) if c["name"] == name)


def volume(pod, name):
    """The volume of this name."""
    return next(v for v in pod["spec"]["volumes"] if v["name"] == name)


def mounts(c):
    """What a container mounts, by the volume's name."""
    return {m["name"]: m for m in c.get("volumeMounts", [])}


def pods(objects):
    """Every pod in there, as (where, pod): pods, pod templates, workloads, sandboxes."""
    for o in objects:
        where = f"{o['kind']}/{o['metadata']['name']}"
        if o["kind"] == "Pod":
            yield where, o
        elif o["kind"] == "PodTemplate":
            yield where, o["template"]
        elif o["kind"] in ("Deployment", "DaemonSet"):
            yield where, o["spec"]["template"]
        elif o["kind"] == "SandboxTemplate":
            yield where, o["spec"]["podTemplate"]
