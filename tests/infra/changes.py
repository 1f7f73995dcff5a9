"""Comparison of two sets of templates: what a deployment would do to resources that hold data.

The properties that force a replacement come from the CloudFormation resource schemas in cfn-lint. A
new logical id counts as a deletion and a creation.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

HOLDS_DATA = frozenset(
    {
        "AWS::CloudTrail::Trail",
        "AWS::DynamoDB::Table",
        "AWS::ECR::Repository",
        "AWS::FSx::FileSystem",
        "AWS::KMS::Key",
        "AWS::Logs::LogGroup",
        "AWS::S3::Bucket",
        "AWS::SageMaker::Cluster",
        "AWS::SageMaker::MlflowApp",
        "AWS::SageMaker::ModelPackageGroup",
        "AWS::SecretsManager::Secret",
    }
)
Kind = Literal["added", "removed", "replaced", "updated"]
Templates = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Change:
    """Change of one resource."""

    kind: Kind
    stack: str
    logical_id: str
    resource_type: str
    properties: tuple[str, ...] = ()

    @property
    def loses_data(self) -> bool:
        """True if a resource that holds data is removed or replaced."""
        return self.kind in ("removed", "replaced") and self.resource_type in HOLDS_DATA

    def __str__(self) -> str:
        what = f" ({', '.join(self.properties)})" if self.properties else ""
        warning = "  <-- holds data" if self.loses_data else ""
        return f"{self.kind:8} {self.stack}/{self.logical_id} {self.resource_type}{what}{warning}"


def changes(before: Templates, after: Templates) -> list[Change]:
    """Return every change from one set of templates to the other."""
    found: list[Change] = []
    for stack in sorted({*before, *after}):
        old = before.get(stack, {}).get("Resources", {})
        new = after.get(stack, {}).get("Resources", {})
        for logical_id in sorted({*old, *new}):
            found += _change(stack, logical_id, old.get(logical_id), new.get(logical_id))
    return found


def _change(
    stack: str, logical_id: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None
) -> Iterator[Change]:
    if old is None and new is not None:
        yield Change("added", stack, logical_id, new["Type"])
    elif new is None and old is not None:
        yield Change("removed", stack, logical_id, old["Type"])
    elif old is not None and new is not None and old != new:
        if old["Type"] != new["Type"]:
            yield Change("replaced", stack, logical_id, old["Type"], ("Type",))
            return
        changed = _changed(old.get("Properties", {}), new.get("Properties", {}))
        forcing = tuple(p for p in changed if _forces_replacement(p, create_only(old["Type"])))
        if forcing:
            yield Change("replaced", stack, logical_id, old["Type"], forcing)
        else:
            other = tuple(k for k in sorted({*old, *new}) if old.get(k) != new.get(k))
            yield Change("updated", stack, logical_id, old["Type"], changed or other)


def _changed(old: Any, new: Any, path: str = "") -> tuple[str, ...]:
    """Return the paths of the properties that differ, down to the innermost mapping."""
    if isinstance(old, dict) and isinstance(new, dict) and not _intrinsic(old) | _intrinsic(new):
        found: list[str] = []
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                found += _changed(old.get(key), new.get(key), f"{path}/{key}")
        return tuple(found)
    return (path.lstrip("/"),)


def _intrinsic(value: dict[str, Any]) -> bool:
    return len(value) == 1 and next(iter(value)).startswith(("Ref", "Fn::"))


def _forces_replacement(changed: str, paths: frozenset[str]) -> bool:
    return any(
        changed == path or changed.startswith(f"{path}/") or path.startswith(f"{changed}/")
        for path in paths
    )


@cache
def create_only(resource_type: str, region: str = "us-east-1") -> frozenset[str]:
    """Return the properties of a resource type whose change forces a replacement."""
    from cfnlint.schema import ResourceNotFoundError
    from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

    if resource_type.startswith("Custom::"):
        return frozenset({"ServiceToken"})
    try:
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(region, resource_type).schema
    except ResourceNotFoundError:
        return frozenset()
    paths = schema.get("createOnlyProperties", [])
    return frozenset(path.removeprefix("/properties/") for path in paths)
