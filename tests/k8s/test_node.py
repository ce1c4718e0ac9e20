"""What goes onto the nodes: the profile, the installation, the local set-up with stand-ins for k3s and Docker."""

import hashlib
import json
import os
import tomllib

import pytest
import yaml

from manifests import K8S, NODE
from scripts import run, succeed

INSTALL = NODE / "install.sh"
SETUP = K8S / "scripts/setup-local-k8s.sh"
PROFILE = NODE / "workspace-netns.seccomp.json"


def test_the_profile_leaves_out_what_leads_out():
    content = json.loads(PROFILE.read_text())
    assert content["defaultAction"] == "SCMP_ACT_ERRNO"
    allowed = {name for rule in content["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    for name in ("setns", "mount", "umount2", "pivot_root", "move_mount", "open_tree", "fsopen", "bpf", "keyctl", "add_key",
                 "request_key", "io_uring_setup", "userfaultfd", "perf_event_open", "init_module", "finit_module",
                 "kexec_load", "open_by_handle_at", "name_to_handle_at", "quotactl", "reboot", "swapon", "clone3",
                 "chroot", "acct", "iopl", "pidfd_getfd"):
        assert name not in allowed, name
    argued = {name for rule in content["syscalls"] if "args" in rule for name in rule["names"]}
    assert {"clone", "unshare", "socket", "personality"} <= argued
    free = {name for rule in content["syscalls"] if "args" not in rule for name in rule["names"]}
    assert not argued & free


def test_runsc_keeps_its_safe_defaults():
    flags = tomllib.loads((NODE / "runsc.toml").read_text())["runsc_config"]
    assert flags == {"platform": "systrap", "network": "sandbox"}


@pytest.fixture
def release(tmp_path):
    """A directory like a download of gVisor: two programs and their checksums."""
    directory = tmp_path / "release"
    directory.mkdir()
    for name in ("runsc", "containerd-shim-runsc-v1"):
        (directory / name).write_text(f"#!/bin/sh\necho {name}\n")
        digest = hashlib.sha512((directory / name).read_bytes()).hexdigest()
        (directory / f"{name}.sha512").write_text(f"{digest}  {name}\n")
    return directory


def installed(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_install_puts_every_file_where_it_is_looked_for(release, tmp_path):
    root = tmp_path / "root"
    succeed(INSTALL, release, env={"DESTDIR": str(root)})
    assert installed(root) == [
        "etc/containerd/runsc.toml", "etc/eks/nodeadm.d/10-gvisor.yaml", "usr/local/bin/containerd-shim-runsc-v1",
        "usr/local/bin/runsc", "var/lib/kubelet/seccomp/profiles/workspace-netns.json"]
    assert os.access(root / "usr/local/bin/runsc", os.X_OK)
    component = yaml.safe_load((K8S / "components/runc-seccomp/pod-template.yaml").read_text())
    (container,) = component["template"]["spec"]["containers"]
    profile = container["securityContext"]["seccompProfile"]["localhostProfile"]
    assert (root / "var/lib/kubelet/seccomp" / profile).read_text() == PROFILE.read_text()


@pytest.mark.parametrize("spoil", [
    lambda d: (d / "runsc").write_text("another"), lambda d: (d / "containerd-shim-runsc-v1").write_text("another"),
    lambda d: (d / "runsc.sha512").unlink(), lambda d: (d / "containerd-shim-runsc-v1").unlink()])
def test_install_takes_no_program_that_is_not_what_its_checksum_says(release, tmp_path, spoil):
    root = tmp_path / "root"
    spoil(release)
    done = run(INSTALL, release, env={"DESTDIR": str(root)})
    assert done.returncode == 1 and done.stderr.startswith("install.sh: ")
    assert installed(root) == []


def test_seccomp_only_needs_no_gvisor(tmp_path):
    root = tmp_path / "root"
    succeed(INSTALL, "--seccomp-only", env={"DESTDIR": str(root)})
    assert installed(root) == ["var/lib/kubelet/seccomp/profiles/workspace-netns.json"]


@pytest.mark.parametrize("words", [[], ["--force"], ["a", "b"], ["--seccomp-only", "a"]])
def test_install_refuses_what_it_does_not_know(words):
    assert run(INSTALL, *words).returncode == 1


@pytest.fixture
def machine(tmp_path, release):
    """A PATH with stand-ins that write down how they were called; secrets are not there yet."""
    programs, record = tmp_path / "bin", tmp_path / "record"
    programs.mkdir()
    behaviour = {"id": "echo 0", "uname": '[ "$1" = -s ] && echo Linux || echo x86_64', "systemctl": "", "docker": "",
                 "curl": "exit 9",
                 "k3s": 'case "$*" in *"get secret"*) exit 1 ;; *"-f -" | *import* | *stdin*) cat >/dev/null ;; esac'}
    for name, body in behaviour.items():
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{record}\n{body}\n')
        (programs / name).chmod(0o755)
    return {"PATH": f"{programs}:{os.environ['PATH']}", "DESTDIR": str(tmp_path / "root"), "GVISOR_DIR": str(release),
            "RECORD": str(record)}


def calls(machine):
    with open(machine["RECORD"]) as record:
        return record.read()


def test_setup_with_runc(machine, tmp_path):
    succeed(SETUP, env=machine)
    assert installed(tmp_path / "root") == ["var/lib/kubelet/seccomp/profiles/workspace-netns.json"]
    said = calls(machine)
    assert "k3s kubectl apply -k " in said and said.index("admission/base") < said.index("overlays/local\n")
    assert said.count("create secret generic workspace-admin") == 2
    assert said.count("create secret generic workspace-agent") == 2
    assert "docker save workspace-base:dev" in said and "k3s ctr images import -" in said
    assert "systemctl" not in said


def test_setup_with_gvisor(machine, tmp_path):
    succeed(SETUP, "--gvisor", env=machine)
    template = tmp_path / "root/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.tmpl"
    first, _, stanza = template.read_text().partition("\n")
    assert first == '{{ template "base" . }}'
    nodeconfig = yaml.safe_load((NODE / "10-gvisor.nodeconfig.yaml").read_text())
    assert tomllib.loads(stanza) == tomllib.loads(nodeconfig["spec"]["containerd"]["config"])
    said = calls(machine)
    assert "systemctl restart k3s" in said and "overlays/local-gvisor\n" in said
    assert "label node --all --overwrite sandbox-runtime=gvisor" in said
    succeed(SETUP, "--gvisor", env=machine)
    assert calls(machine).count("systemctl restart") == 1, "a second run changes nothing and restarts nothing"


def test_setup_keeps_no_half_of_a_failed_download(machine, tmp_path):
    del machine["GVISOR_DIR"]
    assert run(SETUP, "--gvisor", env=machine).returncode != 0
    assert installed(tmp_path / "root") == []
    assert "apply" not in calls(machine)
