"""The custom resources against the definitions that the platform's controllers ship, rules included."""

import pytest

from crds import CUSTOM_GROUPS, faults, rules_checked
from manifests import EVERYTHING, example_claim, of_kind, render


def custom_resources():
    """Every custom resource that is shipped, by a name for the test."""
    for name in EVERYTHING:
        for o in render(name):
            if o["apiVersion"].partition("/")[0] in CUSTOM_GROUPS:
                yield pytest.param(o, id=f"{name}:{o['kind']}")
    yield pytest.param(example_claim(), id="claim.example")


@pytest.mark.parametrize("o", list(custom_resources()))
def test_valid(o):
    assert faults(o) == []


def test_the_rules_are_really_evaluated():
    counts = {o["kind"]: rules_checked(o) for o in render("cluster/karpenter")}
    assert counts["EC2NodeClass"] >= 20, counts
    assert counts["NodePool"] >= 20, counts
    assert counts["CapacityBuffer"] == 2, counts


def resource(name, kind):
    (o,) = of_kind(render(name), kind)
    return o


MISTAKES = {
    "unknown field": ("cluster/karpenter", "NodePool", lambda s: s["disruption"].update(consolidationPolicies="x")),
    "no duration": ("cluster/karpenter", "NodePool", lambda s: s["disruption"].update(consolidateAfter="5 minutes")),
    "unknown policy": ("cluster/karpenter", "NodePool", lambda s: s["disruption"].update(consolidationPolicy="Never")),
    "forbidden label (rule)": ("cluster/karpenter", "NodePool",
                               lambda s: s["template"]["metadata"]["labels"].update({"karpenter.sh/x": "y"})),
    "empty list of values (rule)": ("cluster/karpenter", "NodePool",
                                    lambda s: s["template"]["spec"]["requirements"][0].update(values=[])),
    "hop limit 99": ("cluster/karpenter", "EC2NodeClass",
                     lambda s: s["metadataOptions"].update(httpPutResponseHopLimit=99)),
    "two identities (rule)": ("cluster/karpenter", "EC2NodeClass", lambda s: s.update(instanceProfile="x")),
    "alias without a version (rule)": ("cluster/karpenter", "EC2NodeClass",
                                       lambda s: s.update(amiSelectorTerms=[{"alias": "al2023"}])),
    "buffer without a size (rule)": ("cluster/karpenter", "CapacityBuffer", lambda s: s.pop("replicas")),
    "warm pool without a template": ("overlays/eks", "SandboxWarmPool", lambda s: s.pop("sandboxTemplateRef")),
    "unknown management": ("overlays/eks", "SandboxTemplate", lambda s: s.update(networkPolicyManagement="None")),
    "no network (rule)": ("cluster/network/upstream", "ClusterNetworkPolicy",
                          lambda s: s["egress"][0]["to"][0].update(networks=["169.254.169.254"])),
    "unknown action": ("cluster/network/aws", "ClusterNetworkPolicy",
                       lambda s: s["egress"][0].update(action="Drop")),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_caught(mistake):
    name, kind, mutate = MISTAKES[mistake]
    o = resource(name, kind)
    mutate(o["spec"])
    assert faults(o)


def test_a_claim_without_a_pool_is_caught():
    claim = example_claim()
    del claim["spec"]["warmPoolRef"]
    assert faults(claim)


def test_an_unserved_version_is_caught():
    """The version that one page of Karpenter's documentation still prints."""
    o = resource("cluster/karpenter", "CapacityBuffer")
    o["apiVersion"] = "autoscaling.x-k8s.io/v1alpha1"
    assert faults(o)
