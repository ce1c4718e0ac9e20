"""The admission policies admit the pods that are shipped, and refuse each kind of pod that they name."""

import copy

import pytest

from admission import applies, messages
from manifests import OVERLAYS, container, mounts, of_kind, one, render, template, volume


def policy(name):
    return one(render("cluster/admission/production"), "ValidatingAdmissionPolicy", name)


def pod(overlay="eks"):
    shape = template(render(f"overlays/{overlay}"))
    return {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(shape)}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_shipped_pods_are_admitted(overlay):
    assert messages(policy("workspaces"), object=pod(overlay)) == []


def test_production_takes_the_pod_of_eks_only():
    assert messages(policy("workspaces-production"), object=pod("eks")) == []
    assert len(messages(policy("workspaces-production"), object=pod("local"))) == 2


def test_every_policy_is_bound_to_the_namespace_and_denies():
    objects = render("cluster/admission/production")
    bound = {o["spec"]["policyName"]: o["spec"] for o in of_kind(objects, "ValidatingAdmissionPolicyBinding")}
    assert set(bound) == {o["metadata"]["name"] for o in of_kind(objects, "ValidatingAdmissionPolicy")}
    for spec in bound.values():
        assert spec["validationActions"] == ["Deny"]
        selector = spec["matchResources"]["namespaceSelector"]["matchLabels"]
        assert selector == {"kubernetes.io/metadata.name": "sandboxes"}


def workspace(change):
    return lambda p: change(container(p, "workspace"))


def proxy(change):
    return lambda p: change(container(p, "proxy"))


def token(change):
    return lambda p: change(volume(p, "aws-token")["projected"]["sources"][0]["serviceAccountToken"])


def mount(name, **more):
    return workspace(lambda c: c["volumeMounts"].append({"name": name, "mountPath": "/x", **more}))


def webhook(p):
    """What the IRSA webhook does to a pod whose service account has a role and that names nothing to skip."""
    p["spec"]["volumes"].append({"name": "aws-iam-token", "projected": {"sources": [
        {"serviceAccountToken": {"path": "token", "audience": "sts.amazonaws.com", "expirationSeconds": 86400}}]}})
    for c in p["spec"]["containers"]:
        c.setdefault("env", []).append({"name": "AWS_ROLE_ARN", "value": "arn:aws:iam::111122223333:role/x"})
        c["volumeMounts"].append({"name": "aws-iam-token", "mountPath": "/var/run/t", "readOnly": True})


def second(**fields):
    """One more container, like the workspace but for these fields."""
    def mutate(p):
        p["spec"]["containers"].append({**copy.deepcopy(container(p, "workspace")), "name": "second", **fields})
    return mutate


API_TOKEN = {"name": "api", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
PROJECTED = {"name": "more", "projected": {"sources": [{"secret": {"name": "workspace-admin"}}]}}
SECRET = {"name": "s", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
EXEC = {"exec": {"command": ["true"]}}

# By the beginning of the message that has to come.
WORKSPACES = {
    "there must be one container named proxy": [
        lambda p: p["spec"].update(initContainers=[]), proxy(lambda c: c.pop("restartPolicy")),
        proxy(lambda c: c.update(command=["sh"])), proxy(lambda c: c.pop("command")), second(name="proxy")],
    "every container but the proxy": [
        workspace(lambda c: c["args"].remove("--isolate-net=required")), workspace(lambda c: c.pop("args")),
        workspace(lambda c: c["args"].append("--isolate-net=off")),
        workspace(lambda c: c["args"].extend(["--isolate-net", "off"])),
        workspace(lambda c: c.update(command=["sh"])), second(args=["serve"])],
    "only the proxy may mount": [
        mount("aws-token", readOnly=True), mount("admin-token", readOnly=True), webhook,
        lambda p: (p["spec"]["volumes"].append(API_TOKEN), mount("api", readOnly=True)(p)),
        lambda p: (p["spec"]["volumes"].append(PROJECTED), mount("more", readOnly=True)(p))],
    "a service account token is for AWS": [
        token(lambda t: t.pop("audience")), token(lambda t: t.update(audience="vault")),
        token(lambda t: t.update(expirationSeconds=86400)), token(lambda t: t.pop("expirationSeconds")),
        lambda p: p["spec"]["volumes"].append(API_TOKEN), webhook],
    "only the proxy may have AWS_*": [
        workspace(lambda c: c.update(env=[{"name": "AWS_ROLE_ARN", "value": "x"}])),
        workspace(lambda c: c.update(env=[SECRET])),
        workspace(lambda c: c.update(envFrom=[{"secretRef": {"name": "s"}}])), webhook],
    "what is shared with the proxy": [
        workspace(lambda c: mounts(c)["sockets"].pop("readOnly")), mount("egress-rules"),
        proxy(lambda c: c["volumeMounts"].append({"name": "work", "mountPath": "/work"}))],
    "no hooks and no exec probes": [
        workspace(lambda c: c.update(lifecycle={"postStart": EXEC})),
        workspace(lambda c: c.update(livenessProbe=EXEC)), workspace(lambda c: c.update(readinessProbe=EXEC)),
        workspace(lambda c: c.update(startupProbe=EXEC))],
    "the service account is workspace": [
        lambda p: p["spec"].pop("automountServiceAccountToken"),
        lambda p: p["spec"].update(automountServiceAccountToken=True),
        lambda p: p["spec"].update(serviceAccountName="default")],
    "no namespace of the node": [
        lambda p: p["spec"].update(shareProcessNamespace=True), lambda p: p["spec"].update(hostNetwork=True),
        lambda p: p["spec"].update(hostPID=True), lambda p: p["spec"].update(hostIPC=True),
        lambda p: p["spec"]["volumes"].append({"name": "h", "hostPath": {"path": "/"}})],
}
PRODUCTION = {
    "workspaces run under gVisor": [
        lambda p: p["spec"].pop("runtimeClassName"), lambda p: p["spec"].update(runtimeClassName="runc")],
    "images are named by digest": [
        workspace(lambda c: c.update(image="workspace-base:1.0")),
        proxy(lambda c: c.update(image="workspace-base@sha256:0"))],
}
CASES = [pytest.param(name, message, mutate, id=f"{name}-{message}-{place}")
         for name, table in (("workspaces", WORKSPACES), ("workspaces-production", PRODUCTION))
         for message, mutations in table.items() for place, mutate in enumerate(mutations)]


@pytest.mark.parametrize("name,message,mutate", CASES)
def test_a_mutated_pod_is_refused(name, message, mutate):
    p = pod()
    mutate(p)
    assert any(m.startswith(message) for m in messages(policy(name), object=p))


@pytest.mark.parametrize("name,table", [("workspaces", WORKSPACES), ("workspaces-production", PRODUCTION)])
def test_every_validation_is_put_to_the_test(name, table):
    stated = [v["message"] for v in policy(name)["spec"]["validations"]]
    assert len(stated) == len(table)
    assert all(any(message.startswith(start) for message in stated) for start in table)


def test_nobody_enters_a_workspace_but_by_breaking_the_glass():
    entry = policy("workspaces-no-entry")
    for resource in ("exec", "attach", "portforward", "proxy"):
        assert applies(entry, "CONNECT", f"pods/{resource}")
    assert applies(entry, "UPDATE", "pods/ephemeralcontainers")
    for groups in ({}, {"groups": ["system:masters"]}):
        assert messages(entry, request={"userInfo": {"username": "u", **groups}})
    assert not messages(entry, request={"userInfo": {"groups": ["system:authenticated", "workspace-break-glass"]}})
