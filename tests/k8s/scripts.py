"""Running the shell scripts of k8s/ as a person does."""

import os
import subprocess
from pathlib import Path

from manifests import K8S, REPOSITORY

MANAGE = K8S / "scripts/manage.sh"
PROGRAMS = Path(os.environ.get("WORKSPACE_BIN_DIR") or REPOSITORY / "target/dist")
IMAGE = "workspace-base:test"


def run(*words, env=None, stdin="", **more):
    """Runs a command to its end, whatever comes of it. Nothing of our own settings gets in."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("WORKSPACE_")}
    return subprocess.run([str(word) for word in words], env={**clean, **(env or {})}, input=stdin,
                          capture_output=True, text=True, timeout=120, **more)


def succeed(*words, **more):
    """Runs a command that has to succeed, and gives what it printed."""
    done = run(*words, **more)
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout
