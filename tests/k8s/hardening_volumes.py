"""Checks of what a pod mounts and what is in its environments: credentials, sockets, memory."""

import re

from manifests import container, containers, mounts, of_kind
from subject import memory_volumes, size

STS = "sts.amazonaws.com"


def tokens_are_the_proxys(s):
    """7: a service account token is for STS, short-lived, and in the proxy alone."""
    faults = []
    for v in s.pod["spec"]["volumes"]:
        for source in v.get("projected", {}).get("sources", []):
            token = source.get("serviceAccountToken")
            if token is None:
                continue
            if token.get("audience") != STS or token.get("expirationSeconds", 99999) > 3600:
                faults.append(f"volume {v['name']}: another audience than {STS}, or a life over an hour")
            faults += [f"{c['name']} mounts the token {v['name']}" for c in containers(s.pod["spec"])
                       if c["name"] != "proxy" and v["name"] in mounts(c)]
    return faults


def no_credentials_in_environments(s):
    """8: what is in an environment is read by every command that runs there."""
    faults = []
    for c in containers(s.pod["spec"]):
        if c["name"] == "proxy":
            continue
        if c.get("envFrom"):
            faults.append(f"{c['name']}: envFrom")
        for e in c.get("env", []):
            secret = "secretKeyRef" in e.get("valueFrom", {})
            if secret or e["name"].startswith("AWS_") or re.search("TOKEN$|SECRET|PASSWORD", e["name"]):
                faults.append(f"{c['name']}: {e['name']}")
    return faults


def sockets_are_safe(s):
    """9: the one volume that both have is small, in memory, and read-only in the workspace."""
    shared = set(mounts(container(s.pod, "proxy"))) & set(mounts(container(s.pod, "workspace")))
    if shared != {"sockets"}:
        return [f"the containers share {sorted(shared)}, not the sockets alone"]
    (v,) = [v for v in s.pod["spec"]["volumes"] if v["name"] == "sockets"]
    empty = v.get("emptyDir", {})
    return [fault for fault, bad in {
        "the sockets are not in memory": empty.get("medium") != "Memory",
        "the sockets' volume has no limit": "sizeLimit" not in empty,
        "the workspace can write the sockets": not mounts(container(s.pod, "workspace"))["sockets"].get("readOnly"),
    }.items() if bad]


def volumes_have_limits(s):
    """10: a full volume is the workspace's problem, not the node's."""
    return [f"volume {v['name']} has no sizeLimit" for v in memory_volumes(s.pod) if "sizeLimit" not in v["emptyDir"]]


def gvisor_knows_the_volumes(s):
    """14: under gVisor a shared socket needs hints, and only they bound a volume."""
    if not s.gvisor:
        return []
    spec, annotations = s.pod["spec"], s.pod["metadata"].get("annotations", {})
    faults = [] if spec.get("runtimeClassName") == "gvisor" else ["runtimeClassName is not gvisor"]
    faults += ["runsc takes no user namespaces: hostUsers"] if "hostUsers" in spec else []
    for v in memory_volumes(s.pod):
        hint = {key: annotations.get(f"dev.gvisor.spec.mount.{v['name']}.{key}") for key in ("type", "share", "options")}
        users = [c["name"] for c in containers(spec) if v["name"] in mounts(c)]
        stated = re.search(r"(?:^|,)size=([^,]+)", hint["options"] or "")
        faults += [f"volume {v['name']}: {fault}" for fault, bad in {
            "no type hint of tmpfs": hint["type"] != "tmpfs",
            "the share hint is not who mounts it": hint["share"] != ("pod" if len(users) > 1 else "container"),
            "the hint's size is not sizeLimit":
                not stated or size(stated[1]) != size(v["emptyDir"].get("sizeLimit", "0m")),
        }.items() if bad]
    return faults


def webhook_skips_the_workspace(s):
    """15: the names are not trimmed by whoever reads them."""
    if s.overlay != "eks":
        return []
    value = s.pod["metadata"].get("annotations", {}).get("eks.amazonaws.com/skip-containers")
    others = [c["name"] for c in containers(s.pod["spec"]) if c["name"] != "proxy"]
    faults = [] if value == ",".join(others) else [f"skip-containers is {value!r}, not {','.join(others)!r}"]
    return faults + [f"service account {o['metadata']['name']} has a role"
                     for o in of_kind(s.objects, "ServiceAccount")
                     if "eks.amazonaws.com/role-arn" in o["metadata"].get("annotations", {})]
