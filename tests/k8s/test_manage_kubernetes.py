"""manage.sh with CONTAINER_BACKEND=kubernetes, against a kubectl that writes down what it is asked."""

import json
import sys

import pytest
import yaml

import api_server
from admission import messages
from manifests import K8S, OVERLAYS, kubectl, kustomize, one, render, template
from scripts import MANAGE, run, succeed
from test_schemas import VERSIONS, faults

STUB = "stub_kubectl.py"


@pytest.fixture
def cluster(tmp_path, request):
    """The environment of manage.sh; the overlay is the test's parameter, or local."""
    overlay = getattr(request, "param", "local")
    (tmp_path / "overlay.yaml").write_text(kustomize(K8S / "overlays" / overlay))
    program = tmp_path / "kubectl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {K8S.parent / "tests/k8s" / STUB} "$@"\n')
    program.chmod(0o755)
    return {"CONTAINER_BACKEND": "kubernetes", "KUBECTL": str(program), "STUB_OVERLAY": str(tmp_path / "overlay.yaml"),
            "STUB_RECORD": str(tmp_path / "record")}


def asked(cluster):
    with open(cluster["STUB_RECORD"]) as record:
        return [json.loads(line) for line in record]


def verbs(cluster):
    return [(call["words"][1], call["words"][2]) for call in asked(cluster)]


@pytest.mark.parametrize("cluster,overlay", [(name, name) for name in OVERLAYS], indirect=["cluster"])
def test_start_makes_the_pod_of_the_template(cluster, overlay):
    assert succeed(MANAGE, "start", "one", env=cluster) == "one is ready\n"
    (created,) = [json.loads(call["stdin"]) for call in asked(cluster) if call["words"][2] == "create"]
    shape = template(render(f"overlays/{overlay}"))
    assert created["spec"] == shape["spec"]
    assert created["metadata"] == {"name": "workspace-one", "annotations": {}, **shape["metadata"]}
    assert [fault for version in VERSIONS for fault in faults([created], version)] == []
    policy = one(render("cluster/admission/base"), "ValidatingAdmissionPolicy", "workspaces")
    assert messages(policy, object=created) == []


def test_everything_is_in_the_two_namespaces(cluster):
    succeed(MANAGE, "start", "one", env=cluster)
    succeed(MANAGE, "exec", "one", "true", env=cluster)
    assert set(verbs(cluster)) == {("sandboxes", "get"), ("sandboxes", "create"), ("sandboxes", "wait"),
                                   ("orchestrator", "exec")}
    named = {**cluster, "WORKSPACE_NAMESPACE": "a", "ORCHESTRATOR_NAMESPACE": "b"}
    succeed(MANAGE, "exec", "one", "true", env=named)
    assert verbs(cluster)[-2:] == [("a", "get"), ("b", "exec")]


def test_a_start_that_does_not_get_ready_is_taken_back(cluster):
    done = run(MANAGE, "start", "one", env={**cluster, "STUB_WAIT": "1"})
    assert done.returncode == 2 and "did not start" in done.stderr
    assert "log of proxy" in done.stderr and "log of workspace" in done.stderr
    assert asked(cluster)[-1]["words"][2:5] == ["delete", "pod", "workspace-one"]


def test_a_pod_that_is_refused_is_an_error(cluster):
    done = run(MANAGE, "start", "one", env={**cluster, "STUB_CREATE": "1"})
    assert done.returncode == 2 and "was not created" in done.stderr


@pytest.mark.parametrize("ip,host", [("192.0.2.7", "192.0.2.7"), ("2001:db8::7", "[2001:db8::7]")])
def test_exec_goes_through_the_orchestrators_pod(cluster, ip, host):
    done = run(MANAGE, "exec", "one", "--", "sh", "-c", "echo a b", stdin="in",
               env={**cluster, "STUB_ADDRESS": ip, "STUB_EXEC": "9"})
    command = ["workspace-agent", "exec", "--connect", f"http://{host}:8080", "--", "sh", "-c", "echo a b"]
    assert done.stdout == f'ran {json.dumps(command)} with "in"\n'
    assert done.returncode == 9


def test_rules_reach_the_management_port(cluster):
    shown = succeed(MANAGE, "rules", "one", "put", "-", env=cluster, stdin="{}")
    command = ["workspace-proxy", "rules", "put", "-", "--connect", "http://192.0.2.7:9090"]
    assert shown == f'ran {json.dumps(command)} with "{{}}"\n'
    for word in ("get", "clear"):
        assert f'"rules", "{word}", "--connect"' in succeed(MANAGE, "rules", "one", word, env=cluster)


def test_a_pod_without_an_address_is_an_error(cluster):
    done = run(MANAGE, "exec", "one", "true", env={**cluster, "STUB_ADDRESS": ""})
    assert done.returncode == 2 and "no address" in done.stderr
    assert ("orchestrator", "exec") not in verbs(cluster)


def test_logs_status_and_stop(cluster):
    assert succeed(MANAGE, "logs", "one", env=cluster) == "log of workspace\n"
    for what in ("proxy", "audit"):
        assert succeed(MANAGE, "logs", "one", what, env=cluster) == "log of proxy\n"
    assert succeed(MANAGE, "status", env=cluster) == "NAME READY\n"
    assert succeed(MANAGE, "status", "one", env=cluster).splitlines() == ["pod: Running", "agent: ready", "proxy: ready"]
    unwell = succeed(MANAGE, "status", "one", env={**cluster, "STUB_EXEC": "1"}).splitlines()
    assert unwell == ["pod: Running", "agent: not ready", "proxy: not ready"]
    assert succeed(MANAGE, "stop", "one", env=cluster) == "one is stopped\n"


def test_nobody_enters_a_workspace(cluster):
    """Every exec of kubectl is into the orchestrator's pod."""
    for words in (["start", "one"], ["status", "one"], ["exec", "one", "true"], ["rules", "one", "get"],
                  ["logs", "one"], ["stop", "one"]):
        succeed(MANAGE, *words, env=cluster)
    entered = [call["words"] for call in asked(cluster) if "exec" in call["words"][2:3]]
    assert entered and all(words[:5] == ["--namespace", "orchestrator", "exec", "--stdin", "orchestrator"]
                           for words in entered)


@pytest.mark.parametrize("overlay", ["local", "eks"])
def test_the_real_kubectl_makes_the_same_pod(overlay, tmp_path):
    """Reading, creating, waiting and deleting, against a stand-in for the API server."""
    shape = one(render(f"overlays/{overlay}"), "PodTemplate", "workspace")
    server = api_server.serve(shape)
    try:
        named = {"contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "current-context": "c",
                 "clusters": [{"name": "c", "cluster": {"server": server.url}}], "users": [{"name": "u", "user": {}}]}
        (tmp_path / "config").write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **named}))
        environment = {"CONTAINER_BACKEND": "kubernetes", "KUBECTL": kubectl(), "HOME": str(tmp_path),
                       "KUBECONFIG": str(tmp_path / "config")}
        assert succeed(MANAGE, "start", "one", env=environment) == "one is ready\n"
        assert "workspace-one" in succeed(MANAGE, "status", env=environment)
        assert succeed(MANAGE, "stop", "one", env=environment) == "one is stopped\n"
        assert run(MANAGE, "stop", "one", env=environment).returncode != 0
    finally:
        server.shutdown()
    (created,) = server.created
    assert created["spec"] == shape["template"]["spec"]
    assert created["metadata"]["labels"] == shape["template"]["metadata"]["labels"]
    assert created["metadata"]["annotations"] == shape["template"]["metadata"].get("annotations", {})
