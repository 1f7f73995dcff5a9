"""Facts about resource types, from the CloudFormation resource schemas that cfn-lint contains."""

from collections.abc import Mapping
from functools import cache
from typing import Any

REGION = "us-east-1"
# Logical id of the type's last part, without words that its name property omits.
OMITTED = ("DB", "Security")


@cache
def schema(resource_type: str) -> Mapping[str, Any]:
    """Return the schema of a resource type; empty if the type has none (custom resources)."""
    from cfnlint.schema import ResourceNotFoundError
    from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

    try:
        found = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, resource_type).schema
    except ResourceNotFoundError:
        return {}
    content: Mapping[str, Any] = found
    return content


@cache
def create_only(resource_type: str) -> frozenset[str]:
    """Return the paths of the properties whose change forces a replacement."""
    if resource_type.startswith("Custom::"):
        return frozenset({"ServiceToken"})
    return _paths(resource_type, "createOnlyProperties")


@cache
def conditional_create_only(resource_type: str) -> frozenset[str]:
    """Return the paths of the properties whose change forces a replacement in some cases."""
    return _paths(resource_type, "conditionalCreateOnlyProperties")


@cache
def primary_identifier(resource_type: str) -> tuple[str, ...]:
    """Return the properties that identify a resource, in the order of its physical id."""
    paths = schema(resource_type).get("primaryIdentifier", [])
    return tuple(path.removeprefix("/properties/") for path in paths)


@cache
def name_properties(resource_type: str) -> tuple[str, ...]:
    """Return the properties that make up the physical name of a resource.

    These are the identifier if a template can set all of it (`BucketName`), or the property that is
    called after the type (`ClusterName` of a SageMaker cluster, whose identifier is its ARN).
    """
    generated = _paths(resource_type, "readOnlyProperties")
    identifier = primary_identifier(resource_type)
    if identifier and not generated & frozenset(identifier):
        return identifier
    kind = resource_type.rpartition("::")[2]
    names = [f"{kind}Name", "Name"]
    names += [f"{kind.removeprefix(word)}Name" for word in OMITTED if kind.startswith(word)]
    properties = schema(resource_type).get("properties", {})
    fixed = create_only(resource_type)
    return tuple(name for name in names if name in properties and name in fixed)[:1]


def _paths(resource_type: str, key: str) -> frozenset[str]:
    paths = schema(resource_type).get(key, [])
    return frozenset(path.removeprefix("/properties/") for path in paths)
