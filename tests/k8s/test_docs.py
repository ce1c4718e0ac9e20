"""The pages about Kubernetes lead somewhere, and say what the tests say."""

import re

import pytest

from hardening import CHECKS
from manifests import K8S, REPOSITORY
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
