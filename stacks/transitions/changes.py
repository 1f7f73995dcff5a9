"""Comparison of two sets of templates: what CloudFormation would do to each resource.

The properties that force a replacement come from the resource schemas. A replaced resource gets
another physical id, so whatever refers to it changes as well: the comparison follows references
within a stack, and `exports` follows them between stacks. A new logical id counts as a deletion and
a creation, because CloudFormation does not see a rename.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from stacks.transitions.conflicts import refusal_of_creation, refusal_of_replacement
from stacks.transitions.references import Template, Templates, referenced_ids
from stacks.transitions.schemas import conditional_create_only, create_only

HOLDS_DATA = frozenset(
    {
        "AWS::CloudTrail::Trail",
        "AWS::DynamoDB::Table",
        "AWS::ECR::Repository",
        "AWS::FSx::FileSystem",
        "AWS::KMS::Key",
        "AWS::Logs::LogGroup",
        "AWS::RDS::DBInstance",
        "AWS::S3::Bucket",
        "AWS::SageMaker::Cluster",
        "AWS::SageMaker::MlflowApp",
        "AWS::SageMaker::ModelPackageGroup",
        "AWS::SecretsManager::Secret",
    }
)
Kind = Literal["created", "updated", "replaced", "may be replaced", "deleted"]
Policy = Literal["Delete", "Retain", "Snapshot"]


@dataclass(frozen=True)
class Change:
    """Change of one resource.

    Attributes:
        kind: What CloudFormation does; "may be replaced" depends on the values.
        stack: Name of the stack.
        logical_id: Logical id of the resource.
        resource_type: Type of the resource.
        properties: Paths of the properties that change.
        policy: What becomes of the old physical resource, if it is replaced or deleted.
        refusal: The message with which CloudFormation refuses the change, if it does.
    """

    kind: Kind
    stack: str
    logical_id: str
    resource_type: str
    properties: tuple[str, ...] = ()
    policy: Policy = "Delete"
    refusal: str | None = None

    @property
    def loses_data(self) -> bool:
        """True if a resource that holds data is no longer part of the environment."""
        return self.kind in ("deleted", "replaced") and self.resource_type in HOLDS_DATA

    def __str__(self) -> str:
        what = f" ({', '.join(self.properties)})" if self.properties else ""
        warning = "  <-- holds data" if self.loses_data else ""
        return f"{self.kind:8} {self.stack}/{self.logical_id} {self.resource_type}{what}{warning}"


def changes(before: Templates, after: Templates) -> list[Change]:
    """Return every change from one set of templates to the other."""
    found: list[Change] = []
    for stack in sorted({*before, *after}):
        found += _stack_changes(stack, before.get(stack, {}), after.get(stack, {}))
    return found


def _stack_changes(stack: str, before: Template, after: Template) -> Iterator[Change]:
    old, new = before.get("Resources", {}), after.get("Resources", {})
    replaced = replaced_ids(old, new)
    for logical_id in sorted({*old, *new}):
        was, now = old.get(logical_id), new.get(logical_id)
        if was is None:
            refusal = refusal_of_creation(logical_id, now, old)
            yield Change("created", stack, logical_id, now["Type"], refusal=refusal)
        elif now is None:
            yield Change("deleted", stack, logical_id, was["Type"], policy=deletion_policy(was))
        else:
            yield from _change(stack, logical_id, old, new, replaced)


def replaced_ids(old: Mapping[str, Any], new: Mapping[str, Any]) -> frozenset[str]:
    """Return the resources that are certainly replaced, those that follow another one included."""
    replaced: frozenset[str] = frozenset()
    while True:
        found = frozenset(
            logical_id
            for logical_id in {*old} & {*new}
            if _forcing(old[logical_id], new[logical_id], replaced)
        )
        if found == replaced:
            return found
        replaced = found


def deletion_policy(resource: Mapping[str, Any], key: str = "DeletionPolicy") -> Policy:
    """Return what becomes of a physical resource that is no longer part of its stack."""
    policy = resource.get(key, "Delete")
    if policy.startswith("Retain"):
        return "Retain"
    return "Snapshot" if policy == "Snapshot" else "Delete"


def _change(
    stack: str,
    logical_id: str,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    replaced: frozenset[str],
) -> Iterator[Change]:
    was, now = old[logical_id], new[logical_id]
    kind = was["Type"]
    if logical_id in replaced:
        yield Change(
            "replaced",
            stack,
            logical_id,
            kind,
            _forcing(was, now, replaced),
            deletion_policy(was, "UpdateReplacePolicy"),
            refusal_of_replacement(logical_id, old, new),
        )
        return
    changed = changed_properties(was, now, replaced)
    if not changed and was == now:
        return
    maybe = tuple(each for each in changed if _touches(each, conditional_create_only(kind)))
    if maybe:
        yield Change("may be replaced", stack, logical_id, kind, maybe)
        return
    other = tuple(key for key in sorted({*was, *now}) if was.get(key) != now.get(key))
    yield Change("updated", stack, logical_id, kind, changed or other)


def changed_properties(
    was: Mapping[str, Any], now: Mapping[str, Any], replaced: frozenset[str] = frozenset()
) -> tuple[str, ...]:
    """Return the paths of the properties that differ, or that refer to a replaced resource.

    Args:
        was: The old resource.
        now: The new resource.
        replaced: Logical ids of the replaced resources of the stack.
    """
    old, new = was.get("Properties", {}), now.get("Properties", {})
    return tuple(_changed(old, new, replaced))


def _forcing(
    was: Mapping[str, Any], now: Mapping[str, Any], replaced: frozenset[str]
) -> tuple[str, ...]:
    if was["Type"] != now["Type"]:
        return ("Type",)
    changed = changed_properties(was, now, replaced)
    return tuple(each for each in changed if _touches(each, create_only(was["Type"])))


def _changed(old: Any, new: Any, replaced: frozenset[str], path: str = "") -> Iterator[str]:
    """Yield the paths of the properties that differ, down to the innermost mapping."""
    if isinstance(old, dict) and isinstance(new, dict) and not _intrinsic(old) | _intrinsic(new):
        for key in sorted({*old, *new}):
            yield from _changed(old.get(key), new.get(key), replaced, f"{path}/{key}")
    elif old != new or (replaced and replaced & frozenset(referenced_ids(new))):
        yield path.lstrip("/")


def _intrinsic(value: dict[str, Any]) -> bool:
    return len(value) == 1 and next(iter(value)).startswith(("Ref", "Fn::"))


def _touches(changed: str, paths: frozenset[str]) -> bool:
    return any(
        changed == path or changed.startswith(f"{path}/") or path.startswith(f"{changed}/")
        for path in paths
    )
