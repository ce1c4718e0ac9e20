"""Every object against the strict schemas of four releases of Kubernetes; unknown fields are errors."""

import json

import kubernetes_validate
import pytest

from crds import CUSTOM_GROUPS
from manifests import EVERYTHING, container, render, template

VERSIONS = ("1.34", "1.35", "1.36", "1.37")


def faults(objects, version):
    """What the release would refuse, one line each."""
    found = []
    for o in objects:
        if o["apiVersion"].partition("/")[0] in CUSTOM_GROUPS:
            continue  # test_crds.py
        try:
            kubernetes_validate.validate(o, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            found.append(f"{o['kind']}/{o['metadata']['name']}: {error}")
    return found


def everything():
    """Every object that is shipped, once: the overlays share most of them."""
    return list({json.dumps(o, sort_keys=True): o for name in EVERYTHING for o in render(name)}.values())


@pytest.mark.parametrize("version", VERSIONS)
def test_valid(version):
    assert len(everything()) >= 40
    assert faults(everything(), version) == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mutate", [
    lambda pod: pod["spec"].update(automountServiceAccountTokens=False),
    lambda pod: container(pod, "proxy").update(restartpolicy="Always"),
    lambda pod: container(pod, "workspace")["securityContext"].update(runAsUser="1000"),
    lambda pod: pod["spec"]["volumes"].append({"emptyDir": {}}),
])
def test_a_mistake_is_caught(mutate, version):
    objects = render("overlays/eks")
    mutate(template(objects))
    assert faults(objects, version)


def test_an_unknown_kind_is_caught():
    objects = render("overlays/eks")
    objects[0]["kind"] = "NameSpace"
    assert faults(objects, "1.36")
