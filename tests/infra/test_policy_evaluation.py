"""Tests of the IAM simulator itself, on the rules of AWS's documentation.

Each case is a rule of the IAM User Guide, in the page that it names, with the verdict that the page
gives. If the simulator decided any of them otherwise, the permission tests would prove nothing.
"""

from typing import Any

import pytest

from tests.infra.permissions.resolved import ACCOUNT
from tests.infra.permissions.simulator import simulated

ROLE = f"arn:aws:iam::{ACCOUNT}:role/someone"
OBJECT = "arn:aws:s3:::a-bucket/key"
LOGIC = "reference_policies_evaluation-logic.html"
OPERATORS = "reference_policies_elements_condition_operators.html"
SETS = "reference_policies_condition-single-vs-multi-valued-context-keys.html"


def _policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _statement(effect: str, action: str, condition: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "Effect": effect,
        "Action": action,
        "Resource": "*",
        **({"Condition": condition} if condition else {}),
    }


ALLOW, DENY = _statement("Allow", "s3:*"), _statement("Deny", "s3:*")
READ = _statement("Allow", "s3:GetObject")
ANYONE = {**READ, "Principal": "*"}
NAMED = {**READ, "Principal": {"AWS": ROLE}}
OTHERS = {**READ, "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:role/other"}}
CREATE = "sagemaker:CreateTrainingJob"
JOB = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:training-job/a"
TYPES = "sagemaker:InstanceTypes"
RUNTIME = "sagemaker:MaxRuntimeInSeconds"


def _create(effect: str, condition: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the statements of a conditional denial on top of an allowance, or of an allowance."""
    base = [] if effect == "Allow" else [_statement("Allow", CREATE)]
    return [*base, _statement(effect, CREATE, condition)]


# (rule, page, verdict, policies by kind, action, resource, context)
Rule = tuple[str, str, bool, dict[str, Any], str, str, dict[str, Any]]
RULES: list[Rule] = [
    ("nothing is allowed by default", LOGIC, False, {"identity": []}, "s3:GetObject", OBJECT, {}),
    (
        "an explicit deny wins",
        LOGIC,
        False,
        {"identity": [ALLOW, DENY]},
        "s3:GetObject",
        OBJECT,
        {},
    ),
    (
        "a boundary must allow too",
        LOGIC,
        False,
        {"identity": [ALLOW], "boundary": [READ]},
        "s3:PutObject",
        OBJECT,
        {},
    ),
    (
        "a boundary alone allows nothing",
        LOGIC,
        False,
        {"identity": [], "boundary": [ALLOW]},
        "s3:GetObject",
        OBJECT,
        {},
    ),
    (
        "an endpoint's policy must allow too",
        LOGIC,
        False,
        {"identity": [ALLOW], "endpoint": [ANYONE]},
        "s3:PutObject",
        OBJECT,
        {},
    ),
    (
        "in one account a resource's policy that names the role suffices",
        LOGIC,
        True,
        {"identity": [], "resource": [NAMED]},
        "s3:GetObject",
        OBJECT,
        {},
    ),
    (
        "a resource's policy for another principal does not",
        LOGIC,
        False,
        {"identity": [], "resource": [OTHERS]},
        "s3:GetObject",
        OBJECT,
        {},
    ),
    (
        "an explicit deny of the resource wins",
        LOGIC,
        False,
        {"identity": [ALLOW], "resource": [{**DENY, "Principal": "*"}]},
        "s3:GetObject",
        OBJECT,
        {},
    ),
    *(
        (
            f"{name} of a key that is absent",
            OPERATORS,
            allowed,
            {"identity": identity},
            CREATE,
            JOB,
            {},
        )
        for name, allowed, identity in (
            ("an allowance", False, _create("Allow", {"NumericLessThanEquals": {RUNTIME: "60"}})),
            (
                "a denial above a number",
                True,
                _create("Deny", {"NumericGreaterThan": {RUNTIME: "1"}}),
            ),
            (
                "a denial by a negated operator",
                False,
                _create("Deny", {"NumericNotEquals": {RUNTIME: "1"}}),
            ),
            ("a denial if absent", False, _create("Deny", {"Null": {RUNTIME: "true"}})),
            (
                "a denial with IfExists",
                False,
                _create("Deny", {"NumericEqualsIfExists": {RUNTIME: "1"}}),
            ),
            (
                "ForAnyValue",
                True,
                _create("Deny", {"ForAnyValue:StringNotLike": {TYPES: "ml.m5.*"}}),
            ),
            (
                "ForAllValues",
                True,
                _create("Allow", {"ForAllValues:StringLike": {TYPES: "ml.m5.*"}}),
            ),
        )
    ),
    *(
        (
            f"{name} of several values",
            SETS,
            allowed,
            {"identity": identity},
            CREATE,
            JOB,
            {TYPES: types},
        )
        for name, allowed, identity, types in (
            (
                "ForAnyValue denies one that differs",
                False,
                _create("Deny", {"ForAnyValue:StringNotLike": {TYPES: ["ml.m5.*", "ml.g5.*"]}}),
                ["ml.m5.large", "ml.p5.48xlarge"],
            ),
            (
                "ForAnyValue permits those that match",
                True,
                _create("Deny", {"ForAnyValue:StringNotLike": {TYPES: ["ml.m5.*", "ml.g5.*"]}}),
                ["ml.m5.large", "ml.g5.xlarge"],
            ),
            (
                "ForAllValues refuses one that differs",
                False,
                _create("Allow", {"ForAllValues:StringLike": {TYPES: ["ml.m5.*"]}}),
                ["ml.m5.large", "ml.p5.48xlarge"],
            ),
        )
    ),
    *(
        (
            f"a number {name} the limit",
            OPERATORS,
            allowed,
            {"identity": identity},
            CREATE,
            JOB,
            context,
        )
        for name, allowed, context in (
            ("at", True, {RUNTIME: "3600"}),
            ("above", False, {RUNTIME: "3601"}),
        )
        for identity in [_create("Deny", {"NumericGreaterThan": {RUNTIME: "3600"}})]
    ),
]


def _simulation(rule: Rule) -> dict[str, Any]:
    _, _, _, policies, action, resource, context = rule
    request: dict[str, Any] = {
        "request": {
            "principal": ROLE,
            "action": action,
            "resource": {"resource": resource, "accountId": ACCOUNT},
            "contextVariables": context,
        },
        "identityPolicies": [{"name": "identity", "policy": _policy(*policies["identity"])}],
        "serviceControlPolicies": [],
        "resourceControlPolicies": [],
    }
    if "boundary" in policies:
        boundary = {"name": "boundary", "policy": _policy(*policies["boundary"])}
        request["permissionBoundaryPolicies"] = [boundary]
    if "endpoint" in policies:
        endpoint = {"name": "endpoint", "policy": _policy(*policies["endpoint"])}
        request["vpcEndpointPolicies"] = [endpoint]
    if "resource" in policies:
        request["resourcePolicy"] = _policy(*policies["resource"])
    return request


@pytest.fixture(scope="module")
def verdicts() -> list[dict[str, Any]]:
    """Results of all rules, simulated in one process."""
    return simulated([_simulation(rule) for rule in RULES])


@pytest.mark.parametrize("index", range(len(RULES)), ids=lambda index: RULES[index][0])
def test_the_simulator_decides_as_documented(verdicts: list[dict[str, Any]], index: int) -> None:
    verdict = verdicts[index]
    assert verdict["verdict"] != "Error", verdict["errors"]
    assert verdict["ignored"] == []
    assert (verdict["verdict"] == "Allowed") is RULES[index][2], RULES[index][:2]
