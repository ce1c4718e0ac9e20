"""Checks of the pod: who runs in it, with which rights, and how it starts and stops."""

from manifests import container, containers, of_kind, pods
from subject import flag, seconds


def proxy_is_a_native_sidecar(s):
    """1: there before the first command, and known to be."""
    found = [c for c in s.pod["spec"].get("initContainers", []) if c["name"] == "proxy"]
    if len(found) != 1:
        return ["there is not one init container named proxy"]
    (c,) = found
    return [fault for fault, bad in {
        "the proxy does not stay: restartPolicy is not Always": c.get("restartPolicy") != "Always",
        "nothing waits for the proxy: no startupProbe": "startupProbe" not in c,
    }.items() if bad]


def no_api_tokens(s):
    """2: nothing in a pod speaks to the API server, or knows the services around it."""
    faults = [f"{where}: {key} is not false" for where, pod in pods(s.objects)
              for key in ("automountServiceAccountToken", "enableServiceLinks") if pod["spec"].get(key) is not False]
    return faults + [f"service account {o['metadata']['name']} mounts its token"
                     for o in of_kind(s.objects, "ServiceAccount") if o.get("automountServiceAccountToken") is not False]


def nothing_of_the_node(s):
    """3: no namespace, directory or port of the node; no shared processes."""
    faults = []
    for where, pod in pods(s.objects):
        spec = pod["spec"]
        faults += [f"{where}: {key}" for key in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace")
                   if spec.get(key)]
        faults += [f"{where}: volume {v['name']} is a hostPath" for v in spec.get("volumes", []) if "hostPath" in v]
        faults += [f"{where}: {c['name']} has a hostPort" for c in containers(spec)
                   if any("hostPort" in port for port in c.get("ports", []))]
    return faults


def pods_are_not_root(s):
    """4: no root, and a filter for system calls."""
    faults = []
    for where, pod in pods(s.objects):
        context = pod["spec"].get("securityContext", {})
        if context.get("runAsNonRoot") is not True:
            faults.append(f"{where}: runAsNonRoot is not true")
        profiles = [context.get("seccompProfile")]
        profiles += [p for c in containers(pod["spec"]) if (p := c.get("securityContext", {}).get("seccompProfile"))]
        if not all(p and p["type"] in ("RuntimeDefault", "Localhost") for p in profiles):
            faults.append(f"{where}: no seccomp profile, or none that filters")
    return faults


def containers_are_confined(s):
    """5: no rights, a read-only root, a user of their own, limits."""
    faults = []
    for where, pod in pods(s.objects):
        for c in containers(pod["spec"]):
            context = {**pod["spec"].get("securityContext", {}), **c.get("securityContext", {})}
            limits = c.get("resources", {}).get("limits", {})
            capabilities = context.get("capabilities", {})
            faults += [f"{where}: {c['name']}: {fault}" for fault, bad in {
                "may gain privileges": context.get("allowPrivilegeEscalation") is not False,
                "is privileged": context.get("privileged", False),
                "can write its root": context.get("readOnlyRootFilesystem") is not True,
                "does not drop ALL": capabilities.get("drop") != ["ALL"],
                "adds capabilities": bool(capabilities.get("add")),
                "has a user below 1000": context.get("runAsUser", 0) < 1000,
                "has not all limits": not {"cpu", "memory", "ephemeral-storage"} <= set(limits),
            }.items() if bad]
    return faults


def users_differ(s):
    """6: the workspace cannot touch the proxy's files."""
    users = [c["securityContext"].get("runAsUser") for c in containers(s.pod["spec"])]
    return [] if len(users) == len(set(users)) else ["two containers run as one user"]


def isolation_is_required(s):
    """11: without a network of its own and the filter of system calls no workspace starts."""
    args = container(s.pod, "workspace").get("args", [])
    faults = []
    for flag in ("--isolate-net", "--seccomp"):
        given = [a for a in args if a.startswith(flag)]
        faults += [] if given == [f"{flag}=required"] else [f"{flag} is asked for as {given}"]
    environment = {e["name"] for c in containers(s.pod["spec"]) for e in c.get("env", [])}
    twins = {"WORKSPACE_AGENT_ISOLATE_NET", "WORKSPACE_AGENT_SECCOMP"}
    return faults + [f"{name} is set" for name in sorted(environment & twins)]


def probes_start_no_process(s):
    """12: under gVisor what the kubelet starts in a container is in the pod's network."""
    faults = []
    for c in containers(s.pod["spec"]):
        faults += [f"{c['name']} has hooks"] if c.get("lifecycle") else []
        probes = {key: c[key] for key in ("startupProbe", "readinessProbe", "livenessProbe") if key in c}
        faults += [f"{c['name']}: {key} is no httpGet" for key, probe in probes.items() if "httpGet" not in probe]
        faults += [f"{c['name']} has no readinessProbe"] if "readinessProbe" not in probes else []
    return faults


def stopping_fits_the_notice(s):
    """13: both drains, one after the other, are over before a spot instance is."""
    grace = s.pod["spec"].get("terminationGracePeriodSeconds", 30)
    drains = [flag(container(s.pod, name), "--drain-timeout") for name in ("workspace", "proxy")]
    if None in drains:
        return ["a drain timeout is not stated"]
    # The agent ends what is left two seconds after its drain.
    needed = sum(map(seconds, drains)) + 2
    return [fault for fault, bad in {
        f"the grace of {grace} s is over the spot notice": grace > 100,
        f"the drains take {needed} s of a grace of {grace} s": needed >= grace,
    }.items() if bad]
