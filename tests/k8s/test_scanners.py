"""Scanners written by others find nothing but what k8s/README.md says is so on purpose."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from manifests import EVERYTHING, K8S, OVERLAYS, REPOSITORY, container, render, template

# What checkov finds and is meant to be: (check, resource). Each is explained in k8s/README.md.
DEV = {("CKV_K8S_43", resource) for resource in (
    "Pod.sandboxes.local", "Pod.sandboxes.local-gvisor", "PodTemplate.sandboxes.workspace",
    "Pod.orchestrator.orchestrator")}
DEV |= {("CKV_K8S_15", resource) for _, resource in DEV}
WAIVED = DEV | {("CKV_K8S_40", "Pod.sandboxes.eks"), ("CKV_K8S_40", "Pod.sandboxes.local-gvisor"),
                ("CKV_AWS_27", "AWS::SQS::Queue.InterruptionQueue")}
WAIVED |= {(check, resource) for check in ("CKV_K8S_8", "CKV_K8S_9") for resource in (
    "Pod.orchestrator.orchestrator", "DaemonSet.workspace-nodes.image-prepull",
    "Deployment.workspace-placeholders.placeholders")}


def checkov(directory):
    """What checkov finds in a directory, and how many checks passed."""
    words = [os.environ["WORKSPACE_TESTS_CHECKOV"], "--skip-download", "--quiet", "--output=json",
             "--framework", "kubernetes", "cloudformation", "--directory", str(directory)]
    run = subprocess.run(words, capture_output=True, text=True, timeout=300)
    reports = json.loads(run.stdout)
    reports = reports if isinstance(reports, list) else [reports]
    failed = {(f["check_id"], f["resource"]) for r in reports for f in r["results"]["failed_checks"]}
    return failed, sum(r["summary"]["passed"] for r in reports)


def write(directory, name, objects):
    (directory / f"{name.replace('/', '-')}.yaml").write_text(yaml.safe_dump_all(objects))


def as_pod(overlay):
    """The pod of an overlay's PodTemplate as a Pod, which scanners know better, named after the overlay."""
    shape = template(render(f"overlays/{overlay}"))
    metadata = {"name": overlay, "namespace": "sandboxes", **shape["metadata"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": shape["spec"]}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """Everything that is applied, as a scanner reads it; the workspaces' pod a second time as a Pod."""
    directory = tmp_path_factory.mktemp("shipped")
    for name in EVERYTHING:
        write(directory, name, render(name))
    write(directory, "pods", [as_pod(overlay) for overlay in OVERLAYS])
    (directory / "cloudformation.yaml").write_text((K8S / "aws/cloudformation.yaml").read_text())
    return directory


def test_checkov_finds_what_is_waived_and_nothing_else(shipped):
    failed, passed = checkov(shipped)
    assert failed == WAIVED
    assert passed > 500


def test_checkov_notices(tmp_path):
    """The same scan of a pod made worse."""
    pod = as_pod("eks")
    container(pod, "workspace")["securityContext"]["allowPrivilegeEscalation"] = True
    pod["spec"]["hostNetwork"] = True
    write(tmp_path, "pod", [pod])
    failed, _ = checkov(tmp_path)
    assert {check for check, _ in failed} >= {"CKV_K8S_20", "CKV_K8S_19"}


def test_every_waiver_is_explained():
    text = (K8S / "README.md").read_text()
    assert [check for check in sorted({check for check, _ in WAIVED}) if check not in text] == []


def lint(*words):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, cwd=REPOSITORY, timeout=120)


def beside(program):
    return Path(sys.executable).with_name(program)


def test_cfn_lint_is_content_and_notices(tmp_path):
    source = K8S / "aws/cloudformation.yaml"
    done = lint(beside("cfn-lint"), source)
    assert done.returncode == 0, done.stdout
    worse = tmp_path / "worse.yaml"
    worse.write_text(source.read_text().replace("MessageRetentionPeriod", "MessageRetention"))
    done = lint(beside("cfn-lint"), worse)
    assert done.returncode != 0 and "MessageRetention" in done.stdout


def test_hadolint_is_content_and_notices(tmp_path):
    done = lint(beside("hadolint"), "images/Dockerfile")
    assert done.returncode == 0, done.stdout
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN sudo apt-get install curl\n")
    assert lint(beside("hadolint"), tmp_path / "Dockerfile").returncode != 0


def test_shellcheck_is_content_and_notices(tmp_path):
    scripts = [*(K8S / "scripts").glob("*.sh"), *(K8S / "cluster/node").glob("*.sh")]
    assert len(scripts) == 5
    done = lint("shellcheck", "--external-sources", *scripts)
    assert done.returncode == 0, done.stdout
    (tmp_path / "worse.sh").write_text("#!/bin/bash\nrm -rf $1/*\n")
    assert lint("shellcheck", tmp_path / "worse.sh").returncode != 0
