"""The pod as it is written, in Docker: both containers with the arguments, users and mounts of the local overlay,
in one network namespace, with the seccomp profile of the nodes. What a pod has besides (kubelet, probes) is not
here.
"""

import json
import os
import time

import pytest

from manifests import NODE, container, one, render, template
from scripts import IMAGE, run, succeed

PROFILE = NODE / "workspace-netns.seccomp.json"
PREFIX = f"pod-{os.getpid()}"
ASK = ("exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET http://denied.test/ HTTP/1.1\\r\\nHost: denied.test\\r\\n"
       "Connection: close\\r\\n\\r\\n' >&3; cat <&3")


def eventually(what, ask):
    """Asks until there is an answer."""
    end = time.monotonic() + 30
    while not (answer := ask()):
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.05)
    return answer


def docker_options(pod, c, volumes):
    """A container's user, rights and mounts, as Docker takes them."""
    context = c["securityContext"]
    assert context["readOnlyRootFilesystem"] and context["capabilities"]["drop"] == ["ALL"]
    group = pod["spec"]["securityContext"]["runAsGroup"]
    options = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges",
               f"--user={context['runAsUser']}:{group}"]
    for m in c["volumeMounts"]:
        options.append(f"--volume={volumes[m['name']]}:{m['mountPath']}{':ro' if m.get('readOnly') else ''}")
    return options


def start(name, network, options, arguments):
    words = ["docker", "run", "--detach", "--name", f"{PREFIX}-{name}", f"--network={network}", *options, *arguments]
    succeed(*words)


@pytest.fixture(scope="module")
def pod(tmp_path_factory):
    shape, directory = template(render("overlays/local")), tmp_path_factory.mktemp("pod")
    volumes = {v["name"]: directory / v["name"] for v in shape["spec"]["volumes"]}
    for path in volumes.values():
        path.mkdir()
        path.chmod(0o777)
    # Docker's mounts are beneath directories that only we may enter.
    rules = one(render("overlays/local"), "ConfigMap", "egress-rules")["data"]["policy.yaml"]
    (volumes["egress-rules"] / "policy.yaml").write_text(rules)
    for name in ("admin-token", "agent-token"):
        (volumes[name] / "token").write_text(name)
    proxy, workspace = container(shape, "proxy"), container(shape, "workspace")
    try:
        start("proxy", "none", [*docker_options(shape, proxy, volumes), f"--entrypoint={proxy['command'][0]}"],
              [IMAGE, *proxy["command"][1:], *proxy["args"]])
        start("workspace", f"container:{PREFIX}-proxy",
              [*docker_options(shape, workspace, volumes), f"--security-opt=seccomp={PROFILE}"],
              [IMAGE, *workspace["args"]])
        yield volumes
    finally:
        run("docker", "rm", "--force", "--volumes", f"{PREFIX}-workspace", f"{PREFIX}-proxy")


def beside(pod, *words):
    """A program in the pod's network, with the tokens: what the orchestrator's side sees."""
    return run("docker", "run", "--rm", f"--network=container:{PREFIX}-proxy", "--volume", f"{pod['agent-token']}:/a:ro",
               "--volume", f"{pod['admin-token']}:/m:ro", f"--entrypoint={words[0]}", IMAGE, *words[1:])


def in_workspace(pod, line):
    """A shell line in the workspace, by way of the agent's port."""
    return beside(pod, "workspace-agent", "exec", "--connect", "http://127.0.0.1:8080", "--token-file", "/a/token", "--",
                  "bash", "-c", line)


def test_both_become_ready_and_the_workspace_is_isolated(pod):
    ready = ["workspace-agent", "health", "--ready", "--connect", "http://127.0.0.1:8080"]
    eventually("the agent is ready", lambda: beside(pod, *ready).returncode == 0)
    live = ["workspace-proxy", "health", "--connect", "http://127.0.0.1:9090"]
    eventually("the proxy is ready", lambda: beside(pod, *live).returncode == 0)
    done = in_workspace(pod, "id -u; cat /proc/net/dev | wc -l; echo $HOME")
    assert done.stdout.split() == ["1000", "3", "/workspace"], done.stderr


def test_the_way_out_is_the_proxy_and_nothing_else(pod):
    answer = in_workspace(pod, ASK).stdout
    assert answer.startswith("HTTP/1.1 403") and "not_allowed" in answer
    # The management port is in the pod's network, where commands are not.
    refused = in_workspace(pod, "exec 3<>/dev/tcp/127.0.0.1/9090")
    assert refused.returncode != 0 and "refused" in refused.stderr
    assert in_workspace(pod, "rm /run/workspace/proxy.sock").returncode != 0


def test_rules_are_taken_with_the_token_only(pod):
    words = ["workspace-proxy", "rules", "get", "--connect", "http://127.0.0.1:9090"]
    assert beside(pod, *words, "--admin-token-file", "/m/token").returncode == 0
    assert beside(pod, *words, "--admin-token-file", "/a/token").returncode == 1


def test_the_admin_token_is_not_in_the_workspace(pod):
    assert "admin-token" not in in_workspace(pod, "cat /run/secrets/*/* 2>/dev/null; ls -R /run").stdout


def agent_with(profile):
    """An agent that requires isolation, under a profile; its exit code and what it said."""
    return run("timeout", "--signal=INT", "60", "docker", "run", "--rm", "--network=none", "--cap-drop=ALL",
               "--security-opt=no-new-privileges", f"--security-opt=seccomp={profile}", IMAGE, "serve",
               "--isolate-net=required", "--listen=unix:/tmp/agent.sock")


def test_without_the_profiles_one_rule_the_agent_does_not_start(tmp_path):
    """The mutation that shows what the profile is for."""
    content = json.loads(PROFILE.read_text())
    content["syscalls"] = [rule for rule in content["syscalls"] if rule["names"] != ["unshare"]]
    (tmp_path / "without.json").write_text(json.dumps(content))
    done = agent_with(tmp_path / "without.json")
    assert done.returncode == 125 and "unshare" in done.stderr


@pytest.mark.parametrize("line,allowed", [
    ("unshare --user true", True), ("unshare --user --net true", True), ("unshare --user --mount true", False),
    ("unshare --user --pid --fork true", False), ("unshare --user --uts true", False),
    ("unshare --user --ipc true", False), ("unshare --user --cgroup true", False)])
def test_the_profile_allows_two_namespaces_and_no_other(line, allowed):
    done = run("docker", "run", "--rm", "--network=none", "--cap-drop=ALL", "--security-opt=no-new-privileges",
               f"--security-opt=seccomp={PROFILE}", "--entrypoint=sh", IMAGE, "-c", line)
    assert (done.returncode == 0) == allowed, done.stderr
