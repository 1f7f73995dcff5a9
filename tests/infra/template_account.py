"""Account that consists of templates, and refuses what CloudFormation refuses about references.

It stands in for `LiveEnvironment` and for the CDK CLI, so that a transition is tested in
milliseconds. Its rules are written without the code under test: a template must define what it
refers to, an import needs its export, and an export in use stays as it is.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stacks.transitions.adoption import Retained
from stacks.transitions.assembly import read_assembly
from stacks.transitions.live import LiveStack

Template = dict[str, Any]
# Types whose resources have a fixed name in every environment.
NAMED = ("AWS::S3::Bucket", "AWS::ECR::Repository", "AWS::Logs::LogGroup")


class RefusedError(Exception):
    """Error raised where CloudFormation would refuse; the message is CloudFormation's."""


class TemplateAccount:
    """Stacks as templates.

    Attributes:
        stacks: Live stacks by name.
        log: Names of the stacks that were updated or deleted, in order.
    """

    def __init__(self) -> None:
        self.stacks: dict[str, LiveStack] = {}
        self.other_prefixes: dict[str, LiveStack] = {}
        self.kept: list[str] = []
        self._retained: dict[str, dict[str, Retained]] = {}
        self.log: list[str] = []

    def read(self) -> None:
        """Do nothing: the stacks are always current."""

    def templates(self) -> dict[str, Template]:
        """Return the templates by stack."""
        return {name: stack.template for name, stack in self.stacks.items()}

    def physical_ids(self, name: str) -> dict[str, str]:
        """Return an id for each resource."""
        return {each: f"id-of-{each}" for each in self.stacks[name].template["Resources"]}

    def client(self, _service: str, _roles: Sequence[str] = ()) -> "TemplateAccount":
        """Return this object as client of EC2."""
        return self

    def describe_vpc_endpoint_services(self) -> dict[str, Any]:
        """Return no service: nothing is known, so nothing contradicts."""
        return {"ServiceDetails": []}

    def retained(self) -> dict[str, dict[str, Retained]]:
        """Return what deletion policies kept, by stack and logical id."""
        return self._retained

    def exists(self, _resource: Retained) -> bool:
        """Return True: nothing is deleted by hand."""
        return True

    def import_resources(
        self,
        name: str,
        template: Template,
        wanted: dict[str, Retained],
        _tags: dict[str, str],
    ) -> None:
        """Import retained resources into a stack.

        Raises:
            RefusedError: The template refers to what does not exist, or changes more.
        """
        _check_references(name, template)
        before = self.stacks[name].template if name in self.stacks else {}
        added = set(template["Resources"]) - set(before.get("Resources", {}))
        if added != set(wanted) or template.get("Outputs") != before.get("Outputs"):
            raise RefusedError(
                "As part of the import operation, you cannot modify or add [Outputs]"
            )
        for logical_id in wanted:
            del self._retained[name][logical_id]
        self.stacks[name] = LiveStack(name, f"arn:{name}", "IMPORT_COMPLETE", template, False)
        self.log.append(f"import {name}")

    def run_cdk(self, arguments: Sequence[str]) -> None:
        """Deploy the assembly that `cdk deploy --all --app FOLDER` would deploy."""
        folder = Path(arguments[arguments.index("--app") + 1])
        named = arguments[1]
        for name, stack in read_assembly(folder).items():
            if named in ("--all", "--app", name):
                self.update(name, stack.template)

    def update(self, name: str, template: Template) -> None:
        """Create or update a stack.

        Raises:
            RefusedError: CloudFormation would refuse.
        """
        before = self.stacks[name].template if name in self.stacks else {}
        if before == template:
            return
        _check_references(name, template)
        missing = _imports(template) - self._exports(without=name)
        if missing:
            raise RefusedError(f"{name}: No export named {missing.pop()} found")
        for export in _exports(before) - _exports(template):
            self._check_unused(export, name)
        self._check_names(name, before, template)
        self._keep(name, before, template)
        self.stacks[name] = LiveStack(name, f"arn:{name}", "UPDATE_COMPLETE", template, False)
        self.log.append(name)

    def delete(self, name: str) -> None:
        """Delete a stack.

        Raises:
            RefusedError: Another stack imports from it.
        """
        for export in _exports(self.stacks[name].template):
            self._check_unused(export, name)
        self._keep(name, self.stacks[name].template, {"Resources": {}})
        del self.stacks[name]
        self.log.append(f"-{name}")

    def _keep(self, name: str, before: Template, after: Template) -> None:
        for logical_id, resource in before.get("Resources", {}).items():
            gone = logical_id not in after["Resources"]
            if gone and resource.get("DeletionPolicy", "").startswith("Retain"):
                kept = Retained(resource["Type"], f"id-of-{logical_id}")
                self._retained.setdefault(name, {})[logical_id] = kept

    def _check_names(self, name: str, before: Template, after: Template) -> None:
        for logical_id in set(after["Resources"]) - set(before.get("Resources", {})):
            kept = self._retained.get(name, {}).get(logical_id)
            if kept and kept.resource_type in NAMED:
                raise RefusedError(f"{kept.physical_id} already exists")

    def _exports(self, without: str) -> set[str]:
        return {
            each
            for name, stack in self.stacks.items()
            if name != without
            for each in _exports(stack.template)
        }

    def _check_unused(self, export: str, producer: str) -> None:
        for name, stack in self.stacks.items():
            if name != producer and export in _imports(stack.template):
                raise RefusedError(f"Export {export} cannot be deleted as it is in use by {name}")


def _exports(template: Template) -> set[str]:
    outputs = template.get("Outputs", {}).values()
    return {each["Export"]["Name"] for each in outputs if "Export" in each}


def _imports(template: Template) -> set[str]:
    return set(re.findall(r"'Fn::ImportValue': '([^']+)'", str(template)))


def _check_references(name: str, template: Template) -> None:
    text = str(template)
    named = set(re.findall(r"'Ref': '([^':]+)'", text))
    named |= set(re.findall(r"'Fn::GetAtt': \['([^']+)'", text))
    unknown = named - set(template["Resources"]) - set(template.get("Parameters", {}))
    if unknown:
        raise RefusedError(f"{name}: Unresolved resource dependencies {sorted(unknown)}")
