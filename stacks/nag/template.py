"""Accessors for synthesized templates, which the rules share."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Resource = Mapping[str, Any]
Statement = Mapping[str, Any]
POLICIES = ("AWS::IAM::ManagedPolicy", "AWS::IAM::Policy")


@dataclass(frozen=True)
class RuleViolation:
    """Resource that violates a rule, and in what respect."""

    logical_id: str
    detail: str


@dataclass(frozen=True)
class SynthesizedTemplate:
    """Template of one stack."""

    body: Mapping[str, Any]

    def of_type(self, *kinds: str) -> Iterator[tuple[str, Resource]]:
        """Yield the logical id and the properties of every resource of these types."""
        for logical_id, resource in self.body.get("Resources", {}).items():
            if resource["Type"] in kinds:
                yield logical_id, resource.get("Properties", {})

    def statements(self) -> Iterator[tuple[str, Statement]]:
        """Yield every statement of every identity policy, managed or inline."""
        for logical_id, policy in self.of_type(*POLICIES):
            for statement in policy["PolicyDocument"]["Statement"]:
                yield logical_id, statement
        for logical_id, role in self.of_type("AWS::IAM::Role"):
            for policy in role.get("Policies", []):
                for statement in policy["PolicyDocument"]["Statement"]:
                    yield logical_id, statement


def as_list(value: Any) -> list[Any]:
    """Return one value or several as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def allows(statement: Statement, action: str) -> bool:
    """Return whether an Allow statement covers the action."""
    if statement["Effect"] != "Allow":
        return False
    service = action.partition(":")[0]
    for given in as_list(statement.get("Action")):
        if given in ("*", action, f"{service}:*"):
            return True
        if given.endswith("*") and action.startswith(given[:-1]) and given.startswith(service):
            return True
    return False


def denies_without_key(statement: Statement, action: str, key: str) -> bool:
    """Return whether the statement denies the action if the request lacks a condition key.

    Args:
        statement: Statement of an identity policy.
        action: Action, such as `sagemaker:CreateTrainingJob`.
        key: Condition key, such as `sagemaker:VpcSubnets`.
    """
    return (
        statement["Effect"] == "Deny"
        and action in as_list(statement.get("Action"))
        and statement.get("Condition", {}).get("Null", {}).get(key) == "true"
    )


def unguarded_roles(
    template: SynthesizedTemplate, action: str, key: str
) -> Iterator[tuple[str, list[str]]]:
    """Yield policies that allow an action to roles which are not denied it without a condition key.

    The denial counts wherever it is attached, because a Deny overrides any Allow.

    Args:
        template: Template to search.
        action: Action, such as `sagemaker:CreateTrainingJob`.
        key: Condition key that a request must carry, such as `sagemaker:VpcSubnets`.

    Yields:
        The logical id of the policy, and the roles without the denial.
    """
    guarded: set[str] = set()
    for _, policy in template.of_type(*POLICIES):
        statements = policy["PolicyDocument"]["Statement"]
        if any(denies_without_key(statement, action, key) for statement in statements):
            guarded |= roles_of(policy)
    for logical_id, policy in template.of_type(*POLICIES):
        statements = policy["PolicyDocument"]["Statement"]
        if any(allows(statement, action) for statement in statements):
            roles = roles_of(policy) - guarded
            if roles:
                yield logical_id, sorted(roles)


def roles_of(policy: Resource) -> set[str]:
    """Return the roles a policy is attached to, as text that is equal for equal references."""
    return {str(role) for role in as_list(policy.get("Roles"))}


def as_text(value: Any) -> str:
    """Return a value as text, with its intrinsic functions spelled out."""
    if isinstance(value, Mapping):
        if set(value) == {"Fn::Join"}:
            separator, parts = value["Fn::Join"]
            return str(separator).join(as_text(part) for part in parts)
        parts = [part for value in value.values() for part in as_list(value)]
        return f"<{'.'.join(map(str, parts))}>"
    return str(value)
