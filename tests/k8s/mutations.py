"""Ways to make an overlay worse, by the number of the check that must notice. Each changes a Subject."""

from manifests import container, mounts, of_kind, one, volume


def pod(change):
    """A change of the pod's spec."""
    return lambda s: change(s.pod["spec"])


def proxy(change):
    """A change of the proxy's container."""
    return lambda s: change(container(s.pod, "proxy"))


def workspace(change):
    """A change of the workspace's container."""
    return lambda s: change(container(s.pod, "workspace"))


def empty_dir(name, change):
    """A change of a memory volume."""
    return lambda s: change(volume(s.pod, name)["emptyDir"])


def annotation(key, value):
    """Another value of an annotation of the pod; None removes it."""
    def mutate(s):
        if value is None:
            del s.pod["metadata"]["annotations"][key]
        else:
            s.pod["metadata"]["annotations"][key] = value
    return mutate


def policy(name, change):
    """A change of a network policy."""
    return lambda s: change(one(s.objects, "NetworkPolicy", name)["spec"])


def first(kind, change, objects="objects"):
    """A change of the first object of a kind."""
    return lambda s: change(of_kind(getattr(s, objects), kind)[0])


def arguments(name, old, new):
    """Another argument in place of one that is there."""
    def mutate(s):
        args = container(s.pod, name)["args"]
        args[args.index(old)] = new
    return mutate


def token(change):
    """A change of the web identity token."""
    return lambda s: change(volume(s.pod, "aws-token")["projected"]["sources"][0]["serviceAccountToken"])


def drop_except(network):
    """An exception of the egress policy less."""
    return policy("workspace-egress", lambda p: p["egress"][0]["to"][0]["ipBlock"]["except"].remove(network))


def stanza(old, new):
    """Another text in containerd's configuration."""
    def mutate(s):
        text = s.nodeconfig["spec"]["containerd"]["config"]
        assert old in text
        s.nodeconfig["spec"]["containerd"]["config"] = text.replace(old, new)
    return mutate


def move_proxy(s):
    """The proxy as an ordinary container."""
    spec = s.pod["spec"]
    spec["containers"].append(spec["initContainers"].pop())


def split_ingress_peer(p):
    """Both selectors as two peers: any pod of the namespace, or any such pod anywhere in ours."""
    (peer,) = p["ingress"][0]["from"]
    p["ingress"][0]["from"] = [{key: value} for key, value in peer.items()]


SECRET = {"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
SOCKETS = "dev.gvisor.spec.mount.sockets"

MUTATIONS = {
    1: [move_proxy, proxy(lambda c: c.pop("restartPolicy")), proxy(lambda c: c.pop("startupProbe"))],
    2: [pod(lambda p: p.pop("automountServiceAccountToken")), pod(lambda p: p.update(enableServiceLinks=True)),
        first("ServiceAccount", lambda o: o.pop("automountServiceAccountToken"))],
    3: [pod(lambda p: p.update(hostNetwork=True)), pod(lambda p: p.update(shareProcessNamespace=True)),
        pod(lambda p: p["volumes"].append({"name": "n", "hostPath": {"path": "/"}})),
        workspace(lambda c: c["ports"][0].update(hostPort=8080))],
    4: [pod(lambda p: p["securityContext"].pop("runAsNonRoot")),
        pod(lambda p: p["securityContext"].pop("seccompProfile")),
        workspace(lambda c: c["securityContext"].update(seccompProfile={"type": "Unconfined"}))],
    5: [workspace(lambda c: c["securityContext"].pop("allowPrivilegeEscalation")),
        workspace(lambda c: c["securityContext"].update(readOnlyRootFilesystem=False)),
        proxy(lambda c: c["securityContext"]["capabilities"].update(add=["NET_ADMIN"])),
        proxy(lambda c: c["securityContext"].pop("capabilities")),
        proxy(lambda c: c["securityContext"].update(runAsUser=0)),
        workspace(lambda c: c["resources"]["limits"].pop("ephemeral-storage"))],
    6: [proxy(lambda c: c["securityContext"].update(runAsUser=1000))],
    7: [token(lambda t: t.update(audience="https://kubernetes.default.svc")), token(lambda t: t.pop("audience")),
        token(lambda t: t.update(expirationSeconds=86400)),
        workspace(lambda c: c["volumeMounts"].append({"name": "aws-token", "mountPath": "/t"}))],
    8: [workspace(lambda c: c.update(env=[{"name": "AWS_ROLE_ARN", "value": "x"}])),
        workspace(lambda c: c.update(env=[SECRET])),
        workspace(lambda c: c.update(envFrom=[{"secretRef": {"name": "s"}}]))],
    9: [workspace(lambda c: mounts(c)["sockets"].pop("readOnly")), empty_dir("sockets", lambda e: e.pop("medium")),
        empty_dir("sockets", lambda e: e.pop("sizeLimit")),
        proxy(lambda c: c["volumeMounts"].append({"name": "work", "mountPath": "/work"}))],
    10: [empty_dir("work", lambda e: e.pop("sizeLimit")), empty_dir("tmp", lambda e: e.pop("sizeLimit"))],
    11: [arguments("workspace", "--isolate-net=required", "--isolate-net=off"),
         arguments("workspace", "--isolate-net=required", "--isolate-net=auto"),
         workspace(lambda c: c["args"].append("--isolate-net=off")),
         workspace(lambda c: c["args"].remove("--isolate-net=required")),
         arguments("workspace", "--seccomp=required", "--seccomp=auto"),
         workspace(lambda c: c["args"].remove("--seccomp=required"))],
    12: [workspace(lambda c: c.update(livenessProbe={"exec": {"command": ["true"]}})),
         workspace(lambda c: c.update(lifecycle={"preStop": {"exec": {"command": ["true"]}}})),
         workspace(lambda c: c.pop("readinessProbe"))],
    13: [pod(lambda p: p.update(terminationGracePeriodSeconds=600)),
         pod(lambda p: p.pop("terminationGracePeriodSeconds")),
         arguments("workspace", "--drain-timeout=60s", "--drain-timeout=2m"),
         arguments("proxy", "--drain-timeout=20s", "--drain-timeout=30s"),
         workspace(lambda c: c["args"].remove("--drain-timeout=60s"))],
    14: [pod(lambda p: p.pop("runtimeClassName")), pod(lambda p: p.update(hostUsers=False)),
         annotation(f"{SOCKETS}.share", "container"), annotation(f"{SOCKETS}.share", None),
         annotation(f"{SOCKETS}.type", "bind"), annotation(f"{SOCKETS}.options", "rw,nosuid,nodev,size=2m"),
         annotation(f"{SOCKETS}.options", "rw"), empty_dir("work", lambda e: e.update(sizeLimit="4Gi")),
         pod(lambda p: p["volumes"].append({"name": "cache", "emptyDir": {"sizeLimit": "1Mi"}}))],
    15: [annotation("eks.amazonaws.com/skip-containers", None),
         annotation("eks.amazonaws.com/skip-containers", " workspace"),
         annotation("eks.amazonaws.com/skip-containers", "proxy"),
         pod(lambda p: p["containers"].append({**p["containers"][0], "name": "second"})),
         first("ServiceAccount", lambda o: o["metadata"].update(annotations={"eks.amazonaws.com/role-arn": "x"}))],
    16: [policy("default-deny", lambda p: p["policyTypes"].remove("Egress")),
         policy("default-deny", lambda p: p.update(egress=[{}])),
         policy("workspace-ingress", split_ingress_peer), policy("workspace-ingress", lambda p: p["ingress"].append({})),
         policy("workspace-egress", lambda p: p["egress"][0]["ports"].append({"protocol": "TCP", "port": 80})),
         policy("workspace-egress", lambda p: p["egress"].append({})),
         policy("workspace-egress", lambda p: p["egress"][0]["to"].append({"ipBlock": {"cidr": "::/0"}})),
         drop_except("10.0.0.0/8"), drop_except("100.64.0.0/10"), drop_except("169.254.0.0/16")],
    17: [first("Namespace", lambda o: o["metadata"]["labels"].update({
        "pod-security.kubernetes.io/enforce": "baseline"})),
         first("Namespace", lambda o: o["metadata"]["labels"].pop("pod-security.kubernetes.io/enforce-version"))],
    18: [first("Role", lambda o: o["rules"][0]["resources"].append("pods/exec")),
         first("Role", lambda o: o["rules"][0]["resources"].append("secrets")),
         first("Role", lambda o: o["rules"][0]["resources"].append("pods/*")),
         first("Role", lambda o: o["rules"][1]["verbs"].append("*"))],
    19: [workspace(lambda c: c.update(image="registry.example.com/workspace-base:1.0")),
         proxy(lambda c: c.update(image="workspace-base:latest")),
         first("DaemonSet", lambda o: o["spec"]["template"]["spec"]["containers"][0].update(image="x:1"), "cluster")],
    20: [first("SandboxTemplate", lambda o: o["spec"].pop("networkPolicyManagement")),
         first("SandboxTemplate", lambda o: o["spec"].update(envVarsInjectionPolicy="Allowed")),
         first("SandboxTemplate", lambda o: o["spec"]["podTemplate"]["spec"].update(hostname="x")),
         first("SandboxTemplate", lambda o: o["spec"]["podTemplate"]["metadata"].pop("annotations")),
         first("SandboxWarmPool", lambda o: o["spec"].update(replicas=4))],
    21: [stanza("io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"), stanza("dev.gvisor.*", "dev.kata.*"),
         stanza("runtimes.runsc", "runtimes.gvisor")],
    22: [first("EC2NodeClass", lambda o: o["spec"]["metadataOptions"].update(httpPutResponseHopLimit=2), "cluster"),
         first("EC2NodeClass", lambda o: o["spec"].pop("metadataOptions"), "cluster"),
         first("EC2NodeClass", lambda o: o["spec"]["metadataOptions"].update(httpTokens="optional"), "cluster")],
}
