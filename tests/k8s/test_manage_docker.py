"""manage.sh with CONTAINER_BACKEND=docker: real containers, a real proxy beside them."""

import json
import os
import tempfile
from pathlib import Path

import pytest

from scripts import IMAGE, MANAGE, PROGRAMS, run, succeed

NAME = f"t{os.getpid()}"
RULES = json.dumps({"tracker": {"real_base_url": "https://mcp.example.com/v1",
                                "headers": {"Authorization": "Bearer hunter2"}}})
ASK_PROXY = r"""exec 3<>/dev/tcp/127.0.0.1/8080
printf 'GET http://denied.test/ HTTP/1.1\r\nHost: denied.test\r\nConnection: close\r\n\r\n' >&3
cat <&3"""


@pytest.fixture(scope="module")
def environment():
    # A short path: sockets are in there.
    with tempfile.TemporaryDirectory(prefix="ws-") as state:
        yield {"CONTAINER_BACKEND": "docker", "WORKSPACE_BIN_DIR": str(PROGRAMS), "WORKSPACE_IMAGE": IMAGE,
               "WORKSPACE_STATE_DIR": state, "WORKSPACE_PROXY_ALLOW": "packages.example.com"}


@pytest.fixture(scope="module")
def workspace(environment):
    succeed(MANAGE, "start", NAME, env=environment)
    yield environment
    run(MANAGE, "stop", NAME, env=environment)


def left_behind(environment, name):
    """What a workspace that was stopped must not leave."""
    state = environment["WORKSPACE_STATE_DIR"]
    containers = succeed("docker", "ps", "--all", "--format", "{{.Names}}")
    processes = run("pgrep", "--full", "--list-full", f"{state}/{name}/").stdout
    return containers + processes + " ".join(os.listdir(state))


def test_exec_passes_input_output_and_exit_code(workspace):
    done = run(MANAGE, "exec", NAME, "--", "sh", "-c", "cat; echo err >&2; exit 7", env=workspace, stdin="hello")
    assert (done.stdout, done.stderr, done.returncode) == ("hello", "err\n", 7)


def test_the_workspace_has_no_network_and_no_hold_on_the_proxys_socket(workspace):
    interfaces = succeed(MANAGE, "exec", NAME, "ls", "/sys/class/net", env=workspace)
    assert interfaces.split() == ["lo"]
    done = run(MANAGE, "exec", NAME, "rm", "/run/proxy/proxy.sock", env=workspace)
    assert done.returncode != 0 and "Read-only" in done.stderr


def test_a_refused_request_is_in_the_audit_log(workspace):
    answer = succeed(MANAGE, "exec", NAME, "bash", "-c", ASK_PROXY, env=workspace)
    assert answer.startswith("HTTP/1.1 403") and "not_allowed" in answer
    lines = [json.loads(line) for line in succeed(MANAGE, "logs", NAME, "audit", env=workspace).splitlines()]
    assert [line["code"] for line in lines if line.get("host") == "denied.test"] == ["not_allowed"]


def test_rules_from_a_file_and_from_standard_input(workspace, tmp_path):
    (tmp_path / "rules.json").write_text(RULES)
    succeed(MANAGE, "rules", NAME, "put", tmp_path / "rules.json", env=workspace)
    shown = succeed(MANAGE, "rules", NAME, "get", env=workspace)
    assert "tracker" in shown and "hunter2" not in shown
    succeed(MANAGE, "rules", NAME, "clear", env=workspace)
    assert "tracker" not in succeed(MANAGE, "rules", NAME, "get", env=workspace)
    succeed(MANAGE, "rules", NAME, "put", "-", env=workspace, stdin=RULES)
    assert "tracker" in succeed(MANAGE, "rules", NAME, "get", env=workspace)
    everything = "".join(succeed(MANAGE, "logs", NAME, what, env=workspace) for what in ("agent", "proxy", "audit"))
    assert "hunter2" not in everything


def test_status_and_logs(workspace):
    assert succeed(MANAGE, "status", env=workspace).split() == [NAME, "running"]
    one = succeed(MANAGE, "status", NAME, env=workspace).splitlines()
    assert one == ["container: running", "agent: ready", "proxy: ready"]
    assert "listening" in succeed(MANAGE, "logs", NAME, env=workspace)
    assert "serving" in succeed(MANAGE, "logs", NAME, "proxy", env=workspace)


def test_tokens_are_for_the_owner_only(workspace):
    directory = Path(workspace["WORKSPACE_STATE_DIR"]) / NAME
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "admin.token").stat().st_mode & 0o777 == 0o600


def test_a_second_start_changes_nothing(workspace):
    done = run(MANAGE, "start", NAME, env=workspace)
    assert done.returncode == 2 and "already" in done.stderr
    succeed(MANAGE, "exec", NAME, "true", env=workspace)


def test_stop_leaves_nothing(environment):
    name = f"{NAME}-b"
    succeed(MANAGE, "start", name, env=environment)
    assert left_behind(environment, name).count(name) >= 3, "a container, a process, a directory"
    succeed(MANAGE, "stop", name, env=environment)
    assert name not in left_behind(environment, name)
    done = run(MANAGE, "stop", name, env=environment)
    assert done.returncode == 2 and "no workspace" in done.stderr


@pytest.mark.parametrize("broken,reason", [
    ({"WORKSPACE_IMAGE": "no-such-image:test"}, "no-such-image"),
    ({"WORKSPACE_IMAGE": "workspace-proxy:test"}, "--forward"),
    ({"WORKSPACE_PROXY_ALLOW": "*"}, "*")])
def test_a_failed_start_leaves_nothing(environment, broken, reason):
    name = f"{NAME}-c"
    done = run(MANAGE, "start", name, env={**environment, **broken})
    assert done.returncode == 2, done.stderr
    assert reason in done.stderr, "the reason is shown"
    assert name not in left_behind(environment, name)


@pytest.mark.parametrize("words", [
    ["start"], ["start", "../up"], ["start", "Upper"], ["start", "-x"], ["start", "a" * 41], ["start", "a", "b"],
    ["stop", "no-such"], ["exec", "no-such", "true"], ["exec", NAME], ["rules", NAME], ["rules", NAME, "put"],
    ["rules", NAME, "put", "/no/such/file"], ["logs", NAME, "kernel"], ["destroy", NAME]])
def test_mistakes_are_refused(workspace, words):
    done = run(MANAGE, *words, env=workspace)
    assert done.returncode == 2 and done.stderr.startswith("manage.sh: ")


def test_an_unknown_backend_is_refused(environment):
    done = run(MANAGE, "status", env={**environment, "CONTAINER_BACKEND": "podman"})
    assert done.returncode == 2 and "docker or kubernetes" in done.stderr


def test_help_names_every_command(environment):
    shown = succeed(MANAGE, "help", env=environment)
    assert all(f"manage.sh {word} " in shown for word in ("start", "stop", "status", "logs", "rules", "exec"))
