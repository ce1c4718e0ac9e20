"""What the hardening checks look at, and how they read it."""

import re
from dataclasses import dataclass, field

import yaml

from manifests import GVISOR_OVERLAYS, NODE, render, template


@dataclass
class Subject:
    """An overlay and what is applied beside it, all free to be changed."""

    overlay: str
    objects: list
    cluster: list = field(default_factory=lambda: render("cluster"))
    nodeconfig: dict = field(
        default_factory=lambda: yaml.safe_load((NODE / "10-gvisor.nodeconfig.yaml").read_text()))

    @property
    def pod(self):
        """The pod of the PodTemplate."""
        return template(self.objects)

    @property
    def gvisor(self):
        """Whether its pods run under gVisor."""
        return self.overlay in GVISOR_OVERLAYS


def subject(overlay):
    """An overlay as it is shipped."""
    return Subject(overlay, render(f"overlays/{overlay}"))


def seconds(text):
    """A duration as our flags have it."""
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]


def flag(c, name):
    """The value of a flag of a container, or nothing."""
    values = [a.partition("=")[2] for a in c.get("args", []) if a.startswith(f"{name}=")]
    return values[-1] if values else None


def size(text):
    """A size of Kubernetes (1Gi) or of a mount (1g), in bytes."""
    number, unit = re.fullmatch(r"(\d+)([kmg]|Ki|Mi|Gi)", text).groups()
    return int(number) << {"k": 10, "m": 20, "g": 30}[unit[0].lower()]


def memory_volumes(pod):
    """The volumes that live and die with the pod."""
    return [v for v in pod["spec"]["volumes"] if "emptyDir" in v]
