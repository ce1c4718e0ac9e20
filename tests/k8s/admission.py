"""ValidatingAdmissionPolicies, judged without an API server: variables in their order, then every validation."""

import celpy

from crds import program


def messages(policy, request=None, **objects):
    """The messages with which a policy refuses; none when it admits."""
    activation = {"request": celpy.json_to_cel(request or {})}
    activation |= {name: celpy.json_to_cel(value) for name, value in objects.items()}
    variables = celpy.celtypes.MapType()
    activation["variables"] = variables
    for variable in policy["spec"].get("variables", []):
        variables[celpy.celtypes.StringType(variable["name"])] = program(variable["expression"]).evaluate(activation)
    return [v["message"] for v in policy["spec"]["validations"]
            if not program(v["expression"]).evaluate(activation)]


def applies(policy, operation, resource):
    """Whether a policy is asked about an operation on a resource of the core group."""
    rules = policy["spec"]["matchConstraints"]["resourceRules"]
    return any(operation in rule["operations"] and resource in rule["resources"] for rule in rules)
