"""Every directory that is applied renders, and gives what it is there to give."""

import subprocess

import pytest
import yaml

from manifests import CLUSTER, EVERYTHING, K8S, OVERLAYS, containers, kubectl, of_kind, one, pods, render, template


@pytest.mark.parametrize("name", EVERYTHING)
def test_renders_without_a_repeated_object(name):
    objects = render(name)
    keys = [(o["apiVersion"], o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects]
    assert keys
    assert len(keys) == len(set(keys))


def test_every_kustomization_is_reached():
    """A directory that nothing renders is tested by nothing."""
    seen = set()

    def walk(directory):
        directory = directory.resolve()
        if directory in seen:
            return
        seen.add(directory)
        content = yaml.safe_load((directory / "kustomization.yaml").read_text())
        for entry in content.get("resources", []) + content.get("components", []):
            if (directory / entry).is_dir():
                walk(directory / entry)

    for name in EVERYTHING:
        walk(K8S / name)
    there = {path.parent.resolve() for path in K8S.rglob("kustomization.yaml")}
    # Prepared for a proxy that does not exist yet; test_pod_identity renders it.
    assert there - seen == {(K8S / "components/pod-identity").resolve()}


def test_every_manifest_is_applied():
    """A file that no kustomization names would be dead."""
    named = set()
    for path in K8S.rglob("kustomization.yaml"):
        content = yaml.safe_load(path.read_text())
        entries = content.get("resources", []) + [patch["path"] for patch in content.get("patches", [])]
        named |= {(path.parent / entry).resolve() for entry in entries}
    files = {path.resolve() for path in K8S.rglob("*.yaml") if path.name != "kustomization.yaml"}
    others = {K8S / "agent-sandbox/claim.example.yaml", K8S / "cluster/node/10-gvisor.nodeconfig.yaml",
              K8S / "aws/cloudformation.yaml"}
    assert files - named == {path.resolve() for path in others}


@pytest.mark.parametrize("name", OVERLAYS)
def test_both_containers_run_from_one_image(name):
    images = {c["image"] for c in containers(template(render(f"overlays/{name}"))["spec"])}
    assert len(images) == 1


@pytest.mark.parametrize("name", [name for name in EVERYTHING])
def test_no_image_is_left_without_an_overlay_s_name(name):
    for where, pod in pods(render(name)):
        for c in containers(pod["spec"]):
            assert c["image"] != "workspace-base", where


def copy_of(tmp_path, overlay):
    subprocess.run(["cp", "-r", str(K8S), str(tmp_path)], check=True)
    return tmp_path / "k8s/overlays" / overlay


def test_an_image_set_by_digest_reaches_every_pod(tmp_path):
    """What k8s/README.md tells people to do before the first use; `kustomize edit` writes this list."""
    overlay = copy_of(tmp_path, "eks")
    content = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    digest = "sha256:" + "5" * 64
    content["images"] = [{"name": "workspace-base", "newName": "images.example.org/ours", "digest": digest}]
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(content))
    run = subprocess.run([kubectl(), "kustomize", str(overlay)], capture_output=True, text=True, check=True)
    objects = list(yaml.safe_load_all(run.stdout))
    images = {c["image"] for _, pod in pods(objects) for c in containers(pod["spec"])}
    assert images == {f"images.example.org/ours@{digest}"}


def test_pod_identity(tmp_path):
    """The component that no overlay takes yet: in place of irsa it leaves the pod without a token."""
    overlay = copy_of(tmp_path, "eks")
    text = (overlay / "kustomization.yaml").read_text()
    assert "components/irsa" in text
    (overlay / "kustomization.yaml").write_text(text.replace("components/irsa", "components/pod-identity"))
    run = subprocess.run([kubectl(), "kustomize", str(overlay)], capture_output=True, text=True, check=True)
    objects = list(yaml.safe_load_all(run.stdout))
    pod = template(objects)
    assert pod["metadata"]["annotations"]["eks.amazonaws.com/skip-containers"] == "workspace"
    assert not [v for v in pod["spec"]["volumes"] if "projected" in v]
    egress = one(objects, "NetworkPolicy", "pod-identity-egress")["spec"]["egress"]
    assert egress == [{"to": [{"ipBlock": {"cidr": "169.254.170.23/32"}}], "ports": [{"protocol": "TCP", "port": 80}]}]


def test_room_for_three_thousand_workspaces():
    """The quota lets 3,000 pods of the template be, by number and by what each asks for."""
    objects = render("overlays/eks")
    hard = one(objects, "ResourceQuota", "workspaces")["spec"]["hard"]
    overhead = one(objects, "RuntimeClass", "gvisor")["overhead"]["podFixed"]
    asked = [c["resources"]["requests"] for c in containers(template(objects)["spec"])]
    cpu = sum(milli(request["cpu"]) for request in asked) + milli(overhead["cpu"])
    memory = sum(mebi(request["memory"]) for request in asked) + mebi(overhead["memory"])
    assert int(hard["pods"]) >= 3000
    assert 3000 * cpu <= milli(hard["requests.cpu"])
    assert 3000 * memory <= mebi(hard["requests.memory"])
    (pool,) = of_kind(render("cluster/karpenter"), "NodePool")
    assert 3000 * cpu <= milli(pool["spec"]["limits"]["cpu"])
    assert 3000 * memory <= mebi(pool["spec"]["limits"]["memory"])


def test_placeholders_are_as_large_as_a_workspace():
    asked = [c["resources"]["requests"] for c in containers(template(render("overlays/eks"))["spec"])]
    (deployment,) = of_kind(render("cluster/capacity-fallback"), "Deployment")
    (held,) = [c["resources"]["requests"] for c in deployment["spec"]["template"]["spec"]["containers"]]
    assert milli(held["cpu"]) == sum(milli(request["cpu"]) for request in asked)
    assert mebi(held["memory"]) == sum(mebi(request["memory"]) for request in asked)


def test_the_fences_of_both_network_plugins_are_the_same():
    (aws,), (upstream,) = (render(f"cluster/network/{name}") for name in ("aws", "upstream"))
    assert aws["spec"] == upstream["spec"]
    assert {rule["action"] for rule in aws["spec"]["egress"]} == {"Deny"}


def test_no_cluster_directory_touches_the_workspaces_namespace_objects():
    """cluster/ and the overlays are applied by different people: no object belongs to both."""
    def keys(name):
        return {(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in render(name)}

    for overlay in OVERLAYS:
        for name in CLUSTER:
            assert not keys(f"overlays/{overlay}") & keys(name)


def milli(quantity):
    """Processors, in thousandths."""
    text = str(quantity)
    return int(text[:-1]) if text.endswith("m") else int(text) * 1000


def mebi(quantity):
    """Memory, in MiB."""
    units = {"Mi": 1, "Gi": 1024, "Ti": 1024 * 1024}
    return int(quantity[:-2]) * units[quantity[-2:]]
