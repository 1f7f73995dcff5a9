"""Changes that CloudFormation or the service refuses, with the message they are refused with.

A replacement creates the new resource before it deletes the old one. Whatever must be unique at any
time therefore stands in the way: a custom name, an address range, an Elastic IP address.
"""

from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Any

from stacks.transitions.references import referenced_ids
from stacks.transitions.schemas import name_properties

Resources = Mapping[str, Any]


def refusal_of_replacement(logical_id: str, old: Resources, new: Resources) -> str | None:
    """Return why a resource cannot be replaced, or None.

    Args:
        logical_id: Logical id of the resource.
        old: Resources of the live stack.
        new: Resources of the new template.
    """
    was, now = old[logical_id], new[logical_id]
    if was["Type"] != now["Type"]:
        return (
            "Update of resource type is not permitted. The new template modifies resource type "
            f"of the following resources: [{logical_id}]"
        )
    name = physical_name(now)
    if name and name == physical_name(was):
        return (
            "CloudFormation cannot update a stack when a custom-named resource requires "
            f"replacing. Rename {shown(name)} and update the stack again."
        )
    return _unique_conflict(now, old)


def refusal_of_creation(logical_id: str, resource: Any, old: Resources) -> str | None:
    """Return why a resource cannot be created while the live stack is as it is, or None.

    Args:
        logical_id: Logical id of the new resource.
        resource: The new resource.
        old: Resources of the live stack.
    """
    name = physical_name(resource)
    for other_id, other in old.items():
        if name and other["Type"] == resource["Type"] and name == physical_name(other):
            return f"{shown(name)} already exists in this stack, as {other_id}; {logical_id} is new"
    return _unique_conflict(resource, old)


def physical_name(resource: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the custom name of a resource, or None if it has none of its own."""
    properties = resource.get("Properties", {})
    values = [properties.get(each) for each in name_properties(resource["Type"])]
    if not values or None in values:
        return None
    if any(not each.startswith("AWS::") for each in referenced_ids(values)):
        return None  # the name of another resource, which changes with it
    return tuple(str(value) for value in values)


def shown(name: tuple[str, ...]) -> str:
    """Return a physical name as text."""
    return " | ".join(name)


def _unique_conflict(resource: Mapping[str, Any], old: Resources) -> str | None:
    properties = resource.get("Properties", {})
    for other in old.values():
        theirs = other.get("Properties", {})
        if other["Type"] != resource["Type"]:
            continue
        if resource["Type"] == "AWS::EC2::Subnet" and _overlap(properties, theirs):
            return f"The CIDR '{properties['CidrBlock']}' conflicts with another subnet"
        if resource["Type"] == "AWS::EC2::NatGateway" and (
            properties.get("AllocationId") == theirs.get("AllocationId")
        ):
            return "Elastic IP address is already associated with a NAT gateway"
    return None


def _overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    blocks = (one.get("CidrBlock"), other.get("CidrBlock"))
    if not all(isinstance(block, str) for block in blocks):
        return False
    first, second = (IPv4Network(block) for block in blocks if block)
    return bool(first.overlaps(second))
