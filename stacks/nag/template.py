"""A template as rules look at it: resources by type, statements of policies, conditions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Resource = Mapping[str, Any]
Statement = Mapping[str, Any]
POLICIES = ("AWS::IAM::ManagedPolicy", "AWS::IAM::Policy")


@dataclass(frozen=True)
class RuleViolation:
    """A resource that breaks a rule, and how."""

    logical_id: str
    detail: str


@dataclass(frozen=True)
class SynthesizedTemplate:
    """One stack's template."""

    body: Mapping[str, Any]

    def of_type(self, *kinds: str) -> Iterator[tuple[str, Resource]]:
        """Every resource of these types, with its properties only."""
        for logical_id, resource in self.body.get("Resources", {}).items():
            if resource["Type"] in kinds:
                yield logical_id, resource.get("Properties", {})

    def statements(self) -> Iterator[tuple[str, Statement]]:
        """Every statement of every identity policy, managed or inline."""
        for logical_id, policy in self.of_type(*POLICIES):
            for statement in policy["PolicyDocument"]["Statement"]:
                yield logical_id, statement
        for logical_id, role in self.of_type("AWS::IAM::Role"):
            for policy in role.get("Policies", []):
                for statement in policy["PolicyDocument"]["Statement"]:
                    yield logical_id, statement


def as_list(value: Any) -> list[Any]:
    """One or several, as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def allows(statement: Statement, action: str) -> bool:
    """Whether an Allow statement covers the action."""
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
    """Whether the statement denies the action when the request has no such key."""
    return (
        statement["Effect"] == "Deny"
        and action in as_list(statement.get("Action"))
        and statement.get("Condition", {}).get("Null", {}).get(key) == "true"
    )


def roles_of(policy: Resource) -> set[str]:
    """The roles a policy is attached to, as text that is equal for equal references."""
    return {str(role) for role in as_list(policy.get("Roles"))}


def as_text(value: Any) -> str:
    """A value with its intrinsic functions spelled out, good for looking for characters."""
    if isinstance(value, Mapping):
        if set(value) == {"Fn::Join"}:
            separator, parts = value["Fn::Join"]
            return str(separator).join(as_text(part) for part in parts)
        parts = [part for value in value.values() for part in as_list(value)]
        return f"<{'.'.join(map(str, parts))}>"
    return str(value)
