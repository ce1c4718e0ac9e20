"""What the manifests say to the two programs, to AWS and to each other has to be understood there."""

import json
import re
import subprocess

import pytest
import yaml

from manifests import K8S, OVERLAYS, container, of_kind, one, render, template
from scripts import PROGRAMS, succeed


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_flag_exists_and_every_policy_loads(name, tmp_path):
    objects = render(f"overlays/{name}")
    for c, program in (("workspace", "workspace-agent"), ("proxy", "workspace-proxy")):
        known = subprocess.run([PROGRAMS / program, "serve", "--help"], capture_output=True, text=True).stdout
        for argument in container(template(objects), c)["args"]:
            if argument.startswith("--"):
                assert f"{argument.partition('=')[0]} <" in known, argument
    (tmp_path / "policy.yaml").write_text(one(objects, "ConfigMap", "egress-rules")["data"]["policy.yaml"])
    succeed(PROGRAMS / "workspace-proxy", "check-policy", tmp_path / "policy.yaml")


def stack():
    """The CloudFormation template, its short functions as plain dictionaries."""
    class Loader(yaml.SafeLoader):
        pass

    def function(loader, suffix, node):
        if isinstance(node, yaml.ScalarNode):
            return {suffix: loader.construct_scalar(node)}
        return {suffix: loader.construct_sequence(node)}

    Loader.add_multi_constructor("!", function)
    return yaml.load((K8S / "aws/cloudformation.yaml").read_text(), Loader)


def test_the_role_trusts_this_service_account_and_no_other():
    content = stack()
    parameters = {name: p.get("Default", f"the-{name}") for name, p in content["Parameters"].items()}
    text = content["Resources"]["ProxyRole"]["Properties"]["AssumeRolePolicyDocument"]["Sub"]
    trust = json.loads(re.sub(r"\$\{(\w+)\}", lambda match: parameters[match[1]], text))
    account = one(render("overlays/eks"), "ServiceAccount", "workspace")["metadata"]
    (statement,) = trust["Statement"]
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert statement["Condition"] == {"StringEquals": {
        "the-OidcIssuer:sub": f"system:serviceaccount:{account['namespace']}:{account['name']}",
        "the-OidcIssuer:aud": "sts.amazonaws.com"}}


def test_no_role_of_the_stack_may_do_everything():
    for name, resource in stack()["Resources"].items():
        if resource["Type"].startswith("AWS::IAM::"):
            assert not re.search(r'"(\*|[a-z]+:\*)"', json.dumps(resource)), name


def test_the_nodes_role_is_the_one_that_karpenter_gives_them():
    (o,) = of_kind(render("cluster/karpenter"), "EC2NodeClass")
    assert stack()["Resources"]["NodeRole"]["Properties"]["RoleName"] == o["spec"]["role"]


def test_a_node_lives_longer_than_a_pods_grace():
    (pool,) = of_kind(render("cluster/karpenter"), "NodePool")
    assert pool["spec"]["template"]["spec"]["terminationGracePeriod"] == "5m"
    assert template(render("overlays/eks"))["spec"]["terminationGracePeriodSeconds"] < 300


def test_only_workspaces_tolerate_their_nodes():
    (pool,) = of_kind(render("cluster/karpenter"), "NodePool")
    scheduling = one(render("overlays/eks"), "RuntimeClass", "gvisor")["scheduling"]
    assert pool["spec"]["template"]["metadata"]["labels"] == scheduling["nodeSelector"]
    (taint,), (toleration,) = pool["spec"]["template"]["spec"]["taints"], scheduling["tolerations"]
    assert all(taint[key] == toleration[key] for key in ("key", "value", "effect"))


def test_spare_capacity_and_warm_pool_have_the_shape_of_the_template():
    (buffer,) = of_kind(render("cluster/karpenter"), "CapacityBuffer")
    shape = one(render("overlays/eks"), "PodTemplate", "workspace")["metadata"]
    assert buffer["metadata"]["namespace"] == shape["namespace"]
    assert buffer["spec"]["podTemplateRef"]["name"] == shape["name"]
