"""Checks of what is around the pod: network, namespace, roles, images, sandboxes, nodes."""

import ipaddress
import json
import re
import tomllib

from manifests import DEV_OVERLAYS, containers, of_kind, one, pods

CLOSED = [ipaddress.ip_network(n) for n in
          ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8")]


def open_addresses(block):
    """The closed networks that an ipBlock lets through."""
    network = ipaddress.ip_network(block["cidr"])
    if network.version == 6:
        return [] if network.subnet_of(ipaddress.ip_network("2000::/3")) else [network]
    excepted = [ipaddress.ip_network(n) for n in block.get("except", [])]
    return [c for c in CLOSED if c.overlaps(network) and not any(c.subnet_of(e) for e in excepted)]


def network_is_closed(s):
    """16: nothing in but the orchestrator, nothing out but TLS to public addresses and the name server."""
    policies = [o["spec"] for o in of_kind(s.objects, "NetworkPolicy") if o["metadata"].get("namespace") == "sandboxes"]
    faults = []
    if not any(p["podSelector"] == {} and set(p["policyTypes"]) == {"Ingress", "Egress"}
               and not p.get("ingress") and not p.get("egress") for p in policies):
        faults.append("no policy denies everything")
    for rule in (rule for p in policies for rule in p.get("ingress", [])):
        if not rule.get("from") or not all({"namespaceSelector", "podSelector"} <= set(f) for f in rule["from"]):
            faults.append("an ingress peer is not one pod of one namespace")
        if {port["port"] for port in rule.get("ports", [])} != {8080, 9090}:
            faults.append("ingress to other ports than the two")
    for rule in (rule for p in policies for rule in p.get("egress", [])):
        ports = {(port["protocol"], port["port"]) for port in rule.get("ports", [])}
        blocks = [peer["ipBlock"] for peer in rule.get("to", []) if "ipBlock" in peer]
        if blocks and ports != {("TCP", 443)}:
            faults.append(f"egress to addresses on {sorted(ports)}")
        if not blocks and (ports != {("UDP", 53), ("TCP", 53)}
                           or not all({"namespaceSelector", "podSelector"} <= set(t) for t in rule.get("to", [{}]))):
            faults.append("egress that is neither TLS nor the name server")
        faults += [f"egress reaches {network}" for block in blocks for network in open_addresses(block)]
    return faults


def namespace_is_restricted(s):
    """17: the strictest standard is enforced, in a stated version."""
    labels = one(s.objects, "Namespace", "sandboxes")["metadata"].get("labels", {})
    prefix = "pod-security.kubernetes.io/"
    return [fault for fault, bad in {
        "restricted is not enforced": labels.get(f"{prefix}enforce") != "restricted",
        "no version is pinned": not re.fullmatch(r"v1\.\d+", labels.get(f"{prefix}enforce-version", "")),
    }.items() if bad]


def roles_are_small(s):
    """18: nobody enters a workspace or reads a secret by a role of ours."""
    forbidden = {"pods/exec", "pods/attach", "pods/portforward", "pods/proxy", "pods/ephemeralcontainers", "secrets",
                 "serviceaccounts/token"}
    faults = []
    for o in of_kind(s.objects, "Role") + of_kind(s.objects, "ClusterRole"):
        for rule in o["rules"]:
            faults += [f"{o['metadata']['name']} grants {r}" for r in rule["resources"]
                       if r in forbidden or "*" in r]
            faults += [f"{o['metadata']['name']} grants {v}" for v in rule["verbs"]
                       if v in ("*", "escalate", "bind", "impersonate", "deletecollection")]
    return faults


def images_are_pinned(s):
    """19: what was tested is what runs."""
    if s.overlay in DEV_OVERLAYS:
        return [f"{where}: {c['name']} has no tag" for where, pod in pods(s.objects) for c in containers(pod["spec"])
                if not re.search(r":[\w.-]+$", c["image"]) or c["image"].endswith(":latest")]
    return [f"{where}: {c['name']} is not named by digest" for where, pod in pods(s.objects + s.cluster)
            for c in containers(pod["spec"]) if not re.search(r"@sha256:[0-9a-f]{64}$", c["image"])]


def sandboxes_are_the_template(s):
    """20: agent-sandbox makes exactly the pod of the PodTemplate and opens nothing."""
    if s.overlay != "eks":
        return []
    spec = one(s.objects, "SandboxTemplate", "workspace")["spec"]
    (pool,) = of_kind(s.objects, "SandboxWarmPool")
    ours, theirs = (json.dumps(pod, sort_keys=True) for pod in (s.pod, spec["podTemplate"]))
    return [fault for fault, bad in {
        "its policy is managed by the controller": spec.get("networkPolicyManagement") != "Unmanaged",
        "a claim may set variables": spec.get("envVarsInjectionPolicy") != "Disallowed",
        "its pod is another than the PodTemplate's": ours != theirs,
        "fewer than five are warm": pool["spec"].get("replicas", 1) < 5,
        "the pool has another template": pool["spec"]["sandboxTemplateRef"]["name"] != "workspace",
    }.items() if bad]


def containerd_knows_runsc(s):
    """21: the stanza is where containerd 2 looks, and lets the hints through."""
    if not s.gvisor:
        return []
    config = tomllib.loads(s.nodeconfig["spec"]["containerd"]["config"])
    runtimes = config.get("plugins", {}).get("io.containerd.cri.v1.runtime", {}).get("containerd", {}).get("runtimes", {})
    runsc = runtimes.get(one(s.objects, "RuntimeClass", "gvisor")["handler"])
    if runsc is None:
        return ["containerd 2 would not find the RuntimeClass's handler"]
    return [fault for fault, bad in {
        "the shim is not runsc's": runsc.get("runtime_type") != "io.containerd.runsc.v1",
        "the mount hints do not reach runsc": "dev.gvisor.*" not in runsc.get("pod_annotations", []),
    }.items() if bad]


def metadata_is_out_of_reach(s):
    """22: an answer of the metadata service dies one hop from the node."""
    (o,) = of_kind(s.cluster, "EC2NodeClass")
    options = o["spec"].get("metadataOptions", {})
    return [fault for fault, bad in {
        "tokens are optional": options.get("httpTokens") != "required",
        "the hop limit is not 1": options.get("httpPutResponseHopLimit") != 1,
    }.items() if bad]
