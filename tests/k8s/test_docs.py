"""The pages about Kubernetes lead somewhere, and say what the tests say."""

import re

import pytest
import yaml

from hardening import CHECKS
from manifests import K8S, REPOSITORY, render
from test_admission import CASES

PAGES = ["README.md", "k8s/README.md", "docs/migration.md", "docs/dual-mode.md"]


def anchors(path):
    """The anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    path = REPOSITORY / page
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        target, _, anchor = link.partition("#")
        there = (path.parent / target).resolve() if target else path
        assert there.exists(), link
        assert not anchor or anchor in anchors(there), link


@pytest.mark.parametrize("page", PAGES)
def test_named_files_exist(page):
    """Every path of ours that a page names."""
    text = (REPOSITORY / page).read_text()
    base = K8S if page.startswith("k8s/") else REPOSITORY
    # An ellipsis or capitals stand for something of the reader's.
    names = set(re.findall(r"`((?:k8s|base|components|overlays|cluster|aws|scripts|docs|tests)/[\w./-]+)`", text))
    for name in names | set(re.findall(r"(k8s/[\w./-]+\.(?:sh|yaml))", text)):
        assert (base / name).exists() or (REPOSITORY / name).exists(), name


def test_the_table_of_checks_is_complete():
    rows = re.findall(r"^\| (\d+) \|", (K8S / "README.md").read_text(), re.MULTILINE)
    assert [int(row) for row in rows] == sorted(CHECKS) + [23]


def test_the_number_of_spoilt_pods_is_right():
    assert f"{len(CASES)} spoilt ones" in (K8S / "README.md").read_text()


def applied(kind, name):
    """What one of the page's `kubectl apply` commands applies."""
    if kind == "-k":
        return render(name.removeprefix("k8s/"))
    return list(yaml.safe_load_all((REPOSITORY / name).read_text()))


def test_the_steps_on_eks_are_in_an_order_that_works():
    """Nothing is applied into a namespace that an earlier step has not made."""
    steps = (K8S / "README.md").read_text().partition("## On EKS")[2].partition("## Day two")[0]
    commands = re.findall(r"kubectl apply (-[kf]) (\S+)", steps)
    assert [name for _, name in commands] == [
        "k8s/base/namespace.yaml", "k8s/cluster", "k8s/overlays/eks", "k8s/agent-sandbox/claim.example.yaml"]
    namespaces, pools = set(), set()
    for kind, name in commands:
        objects = applied(kind, name)
        namespaces |= {o["metadata"]["name"] for o in objects if o["kind"] == "Namespace"}
        pools |= {o["metadata"]["name"] for o in objects if o["kind"] == "SandboxWarmPool"}
        assert {o["metadata"]["namespace"] for o in objects if "namespace" in o["metadata"]} <= namespaces, name
        assert {o["spec"]["warmPoolRef"]["name"] for o in objects if o["kind"] == "SandboxClaim"} <= pools
