"""Rules of CloudFormation that moto's server does not enforce, with the messages of CloudFormation.

Moto accepts any update and deletes any stack. A rehearsal on it would succeed where an account
refuses, so these rules are added to its server: exports in use are neither deleted nor changed, a
custom-named resource is not replaced, a name is not taken twice, a stack with termination
protection or with a bucket that is not empty is not deleted, and what a deletion policy retains
stays. Moto also forgets the exports that an update adds, and resources whose type it cannot update;
both are fixed here.

Sources of the messages: docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/troubleshooting.html
and github.com/aws/aws-cdk/issues/3414.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from moto.cloudformation import parsing
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import CloudFormationBackend, Event, Stack
from moto.cloudformation.parsing import ResourceMap
from moto.cloudformation.responses import CloudFormationResponse
from moto.core.responses import ActionResult
from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends
from moto.s3.models import s3_backends
from moto.utilities.utils import get_partition

from emulator import cloudformation_imports
from stacks.transitions.schemas import create_only, name_properties

RETAINED: dict[tuple[str, str], Any] = {}
"""Resources that a deletion policy kept, by type and physical id."""
SKIPPED: dict[str, list[Event]] = {}
"""Events of an operation that is under way, by the id of its stack."""


def install() -> None:
    """Add the rules to moto's classes."""
    _Originals.update_stack = CloudFormationBackend.update_stack
    _Originals.delete_stack = CloudFormationBackend.delete_stack
    _Originals.create_stack = CloudFormationBackend.create_stack
    _Originals.delete_resource = ResourceMap._delete_resource
    _Originals.update_resource = parsing.parse_and_update_resource
    parsing.parse_and_update_resource = _update_resource
    CloudFormationBackend.update_stack = _update_stack
    CloudFormationBackend.create_stack = _create_stack
    ResourceMap._delete_resource = _delete_resource
    CloudFormationResponse.delete_stack = _delete_stack_action
    cloudformation_imports.install(CloudFormationResponse, parsing, RETAINED)
    CloudFormationResponse.update_termination_protection = _protect


class _Originals:
    """Methods of moto that the rules call."""

    update_stack: Any
    delete_stack: Any
    create_stack: Any
    delete_resource: Any
    update_resource: Any


def _update_stack(backend: Any, name: str, template: str, *args: Any, **kwargs: Any) -> Any:
    stack = backend.get_stack(name)
    new = Stack.parse_template(template)
    _refuse_lost_exports(backend, stack, new)
    _refuse_replacements(stack.template_dict, new)
    for parameter, description in stack.template_dict.get("Parameters", {}).items():
        stack.parameters.setdefault(parameter, description.get("Default"))
    before = {export.name: export.value for export in stack.exports}
    removed = set(stack.template_dict["Resources"]) - set(new["Resources"])
    result = _Originals.update_stack(backend, name, template, *args, **kwargs)
    for logical_id in removed:
        # Moto would return the deleted resource if a later update defines it again.
        stack.resource_map._parsed_resources.pop(logical_id, None)
    stack.events += SKIPPED.pop(stack.stack_id, [])
    after = {export.name: export for export in stack.exports}
    for lost in set(before) - set(after):
        backend.exports.pop(lost, None)
    backend.exports.update(after)
    return result


def _create_stack(backend: Any, *args: Any, **kwargs: Any) -> Any:
    template = Stack.parse_template(kwargs["template"] if "template" in kwargs else args[1])
    for logical_id, resource in template["Resources"].items():
        for name in _names(resource):
            importing = logical_id in cloudformation_imports.IMPORTING
            if (resource["Type"], name) in RETAINED and not importing:
                raise ValidationError(message=f"{name} already exists (Logical ID: {logical_id})")
    return _Originals.create_stack(backend, *args, **kwargs)


def _delete_stack_action(response: Any) -> ActionResult:
    backend = response.cloudformation_backend
    name = response._get_param("StackName")
    kept = response._get_param("RetainResources", []) or []
    stack = backend.get_stack(name)
    if stack.enable_termination_protection:
        raise ValidationError(
            message=f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled"
        )
    for export in stack.exports:
        using = list(_importers(backend, export.name, stack))
        if using:
            _fail(
                stack,
                stack.name,
                f"Cannot delete export {export.name} as it is in use by {', '.join(using)}",
            )
            return ActionResult({})
    _delete_custom_resources(stack)
    occupied = [each for each in _occupied_buckets(stack) if each not in kept]
    for logical_id in occupied:
        _fail(stack, logical_id, "The bucket you tried to delete is not empty")
    if not occupied:
        for logical_id in kept:
            description = stack.resource_map._resource_json_map[logical_id]
            description["DeletionPolicy"] = "RetainExceptOnCreate"
        _Originals.delete_stack(backend, stack.stack_id)
        stack.events += SKIPPED.pop(stack.stack_id, [])
        # A description of the deleted stack would create what its outputs refer to.
        stack.output_map._output_json_map = {}
    return ActionResult({})


def _delete_custom_resources(stack: Any) -> None:
    """Delete custom resources first: moto would delete the buckets that their handlers empty."""
    resources = stack.resource_map
    for logical_id, description in resources._resource_json_map.items():
        if description["Type"].startswith("Custom::"):
            custom = resources._parsed_resources.pop(logical_id, None)
            if custom is not None:
                custom.delete(stack.account_id, stack.region_name)


def _protect(response: Any) -> ActionResult:
    stack = response.cloudformation_backend.get_stack(response._get_param("StackName"))
    stack.enable_termination_protection = response._get_bool_param("EnableTerminationProtection")
    return ActionResult({"StackId": stack.stack_id})


def _delete_resource(resources: Any, parsed: Any, description: dict[str, Any]) -> None:
    if str(description.get("DeletionPolicy", "Delete")).startswith("Retain"):
        RETAINED[description["Type"], str(parsed.physical_resource_id)] = parsed
        SKIPPED.setdefault(resources.stack_id, []).append(
            Event(
                stack_id=resources.stack_id,
                stack_name=resources["AWS::StackName"],
                logical_resource_id=parsed.logical_resource_id,
                physical_resource_id=parsed.physical_resource_id,
                resource_type=description["Type"],
                resource_status="DELETE_SKIPPED",
                resource_status_reason=None,
                resource_properties=None,
            )
        )
        return
    if description["Type"] == "AWS::IAM::ManagedPolicy":
        _delete_policy(resources, parsed)
        return
    if description["Type"] == "AWS::EC2::RouteTable":
        _delete_route_table(resources, parsed)
        return
    _Originals.delete_resource(resources, parsed, description)


def _delete_policy(resources: Any, policy: Any) -> None:
    """Detach a policy from its roles and delete it, as CloudFormation does."""
    iam = iam_backends[resources._account_id][get_partition(resources._region_name)]
    for role in list(iam.roles.values()):
        if policy.arn in role.managed_policies:
            iam.detach_role_policy(policy.arn, role.name)
    iam.managed_policies.pop(policy.arn, None)


def _delete_route_table(resources: Any, table: Any) -> None:
    """Delete a route table and its associations; moto's stacks delete neither."""
    ec2 = ec2_backends[resources._account_id][resources._region_name]
    for association in list(table.associations):
        ec2.disassociate_route_table(association)
    ec2.delete_route_table(table.id)


def _update_resource(logical_id: str, description: Any, resources: Any, **kwargs: Any) -> Any:
    """Update a resource; one whose type moto cannot update stays as it is, instead of vanishing."""
    updated = _Originals.update_resource(logical_id, description, resources, **kwargs)
    return resources[logical_id] if updated is None else updated


def _refuse_lost_exports(backend: Any, stack: Any, new: Mapping[str, Any]) -> None:
    kept = {
        output["Export"]["Name"]
        for output in (new.get("Outputs") or {}).values()
        if "Export" in output
    }
    for export in stack.exports:
        using = list(_importers(backend, export.name, stack))
        if using and export.name not in kept:
            raise ValidationError(
                message=f"Export {export.name} cannot be deleted as it is in use by "
                f"{', '.join(using)}"
            )


def _importers(backend: Any, export: str, producer: Any) -> Iterator[str]:
    for other in backend.stacks.values():
        text = json.dumps(other.template_dict, default=str)
        if other is not producer and f'"Fn::ImportValue": "{export}"' in text:
            yield other.name


def _refuse_replacements(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    for logical_id, was in old["Resources"].items():
        now = new["Resources"].get(logical_id)
        if now is None:
            continue
        if now["Type"] != was["Type"]:
            raise ValidationError(
                message="Update of resource type is not permitted. The new template modifies "
                f"resource type of the following resources: [{logical_id}]"
            )
        changed = [
            path
            for path in create_only(was["Type"])
            if _at(was.get("Properties"), path) != _at(now.get("Properties"), path)
        ]
        names = set(_names(was)) & set(_names(now))
        if changed and names:
            raise ValidationError(
                message="CloudFormation cannot update a stack when a custom-named resource "
                f"requires replacing. Rename {names.pop()} and update the stack again."
            )


def _names(resource: Mapping[str, Any]) -> Iterator[str]:
    """Yield the custom name of a resource, if the template states it."""
    properties = resource.get("Properties") or {}
    values = [properties.get(each) for each in name_properties(resource["Type"])]
    if len(values) == 1 and isinstance(values[0], str):
        yield values[0]


def _at(properties: Any, path: str) -> Any:
    for part in path.split("/"):
        properties = properties.get(part) if isinstance(properties, Mapping) else None
    return properties


def _occupied_buckets(stack: Any) -> Iterator[str]:
    partition = get_partition(stack.region_name)
    buckets = s3_backends[stack.account_id][partition].buckets
    for logical_id, resource in stack.template_dict["Resources"].items():
        if resource["Type"] != "AWS::S3::Bucket" or resource.get(
            "DeletionPolicy", "Delete"
        ).startswith("Retain"):
            continue
        parsed = stack.resource_map._parsed_resources.get(logical_id)
        bucket = buckets.get(parsed.physical_resource_id) if parsed else None
        if bucket and bucket.keys:
            yield logical_id


def _fail(stack: Any, logical_id: str, reason: str) -> None:
    resource = stack.template_dict["Resources"].get(logical_id, {})
    stack.status = "DELETE_FAILED"
    stack.events.append(
        Event(
            stack_id=stack.stack_id,
            stack_name=stack.name,
            logical_resource_id=logical_id,
            physical_resource_id=logical_id,
            resource_type=resource.get("Type", "AWS::CloudFormation::Stack"),
            resource_status="DELETE_FAILED",
            resource_status_reason=reason,
            resource_properties=None,
        )
    )
