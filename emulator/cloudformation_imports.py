"""Change sets of type IMPORT, which moto's server does not know.

An import makes an existing resource part of a stack and changes nothing about it. Here only a
resource that a deletion policy kept can be imported.
"""

from __future__ import annotations

import uuid
from typing import Any

from moto.cloudformation.exceptions import ValidationError
from moto.core.responses import ActionResult

IMPORTING: dict[str, tuple[str, str]] = {}
"""Type and physical id of the resources of an import that is under way, by logical id."""
_CHANGE_SETS: dict[str, dict[str, Any]] = {}


def install(response: Any, parsing: Any, retained: dict[tuple[str, str], Any]) -> None:
    """Add imports to moto's classes.

    Args:
        response: Class of the responses of CloudFormation.
        parsing: Module that creates resources.
        retained: Resources that can be imported, by type and physical id.
    """
    create, describe, execute = (
        response.create_change_set,
        response.describe_change_set,
        response.execute_change_set,
    )
    create_resource = parsing.parse_and_create_resource

    def create_change_set(self: Any) -> Any:
        if self._get_param("ChangeSetType") != "IMPORT":
            return create(self)
        return _create(self, retained)

    def describe_change_set(self: Any) -> Any:
        found = _CHANGE_SETS.get(self._get_param("ChangeSetName"))
        answer = {"Status": "CREATE_COMPLETE", "Parameters": {}, "Changes": []}
        return ActionResult(answer) if found else describe(self)

    def execute_change_set(self: Any) -> Any:
        found = _CHANGE_SETS.get(self._get_param("ChangeSetName"))
        return _execute(self.cloudformation_backend, found) if found else execute(self)

    def parse_and_create_resource(logical_id: str, *args: Any, **kwargs: Any) -> Any:
        key = IMPORTING.get(logical_id)
        if key is None:
            return create_resource(logical_id, *args, **kwargs)
        resource = retained.pop(key)
        resource.logical_resource_id = logical_id
        return resource

    response.create_change_set = create_change_set
    response.describe_change_set = describe_change_set
    response.execute_change_set = execute_change_set
    parsing.parse_and_create_resource = parse_and_create_resource


def _create(response: Any, retained: dict[tuple[str, str], Any]) -> ActionResult:
    wanted = {}
    for each in response._get_param("ResourcesToImport"):
        [physical_id] = each["ResourceIdentifier"].values()
        key = (each["ResourceType"], physical_id)
        if key not in retained:
            raise ValidationError(message=f"Resource {physical_id} does not exist")
        wanted[each["LogicalResourceId"]] = key
    name = f"import-{uuid.uuid4()}"
    _CHANGE_SETS[name] = {
        "stack": response._get_param("StackName"),
        "template": response._get_param("TemplateBody"),
        "wanted": wanted,
        "tags": {each["Key"]: each["Value"] for each in response._get_param("Tags", [])},
    }
    return ActionResult({"Id": name, "StackId": response._get_param("StackName")})


def _execute(backend: Any, change_set: dict[str, Any]) -> ActionResult:
    name = change_set["stack"]
    IMPORTING.update(change_set["wanted"])
    try:
        if any(stack.name == name for stack in backend.stacks.values()):
            backend.update_stack(name, change_set["template"], None, [], change_set["tags"])
        else:
            backend.create_stack(
                name=name, template=change_set["template"], parameters={}, tags=change_set["tags"]
            )
    finally:
        IMPORTING.clear()
    backend.get_stack(name).status = "IMPORT_COMPLETE"
    return ActionResult({})
