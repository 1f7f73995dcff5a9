"""Adoption of resources that an earlier deployment left in the account.

A deletion policy keeps what holds data when a switch is turned off or an environment is deleted.
Most of it has a fixed name, so creating it again would fail, and a KMS key without its old id could
not read the old data. CloudFormation remembers for 90 days what it skipped; whatever the new
templates define under the same logical id is imported before they are deployed.

An import accepts a template of existing resources only, without references to others, so the
properties that need these are left to the deployment that follows. One that cannot be changed
later must not be missing: a repository's key, for example, is imported from the security stack,
which is deployed before.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from stacks.errors import DeploymentError
from stacks.transitions.references import Template, exports, imports, referenced_ids
from stacks.transitions.schemas import create_only, primary_identifier


@dataclass(frozen=True)
class Retained:
    """Resource that CloudFormation left in the account.

    Attributes:
        resource_type: Type of the resource.
        physical_id: Its physical id.
    """

    resource_type: str
    physical_id: str

    @property
    def identifier(self) -> dict[str, str]:
        """The properties that identify it."""
        names = primary_identifier(self.resource_type)
        return dict(zip(names, self.physical_id.split("|"), strict=False))


def adoptable(
    live: Template, new: Template, retained: Mapping[str, Retained]
) -> dict[str, Retained]:
    """Return the resources of one stack to import, by logical id.

    Args:
        live: Template of the stack in the account; empty if there is none.
        new: Template to deploy.
        retained: What CloudFormation left of this stack, by logical id.
    """
    present = live.get("Resources", {})
    return {
        logical_id: retained[logical_id]
        for logical_id, resource in new.get("Resources", {}).items()
        if logical_id not in present
        and logical_id in retained
        and retained[logical_id].resource_type == resource["Type"]
    }


def import_template(
    live: Template, new: Template, wanted: Mapping[str, Retained], available: frozenset[str]
) -> dict[str, Any]:
    """Return the template of an import: the live one with the resources to import.

    Args:
        live: Template of the stack in the account; empty if there is none.
        new: Template to deploy.
        wanted: Resources to import, by logical id.
        available: Names of the exports of the account.

    Raises:
        DeploymentError: A property that cannot be changed later refers to what does not exist yet.
    """
    template: dict[str, Any] = deepcopy(dict(live)) or {"Description": new.get("Description", "")}
    resources = template.setdefault("Resources", {})
    known = frozenset(resources) | frozenset(wanted)
    for logical_id in wanted:
        resource = deepcopy(new["Resources"][logical_id])
        resource.pop("DependsOn", None)
        for name, value in list(resource.get("Properties", {}).items()):
            if not _resolvable(value, known, available):
                if _fixed(resource["Type"], name):
                    raise DeploymentError(
                        f"{logical_id} ({resource['Type']}) is in the account and cannot be "
                        f"imported, because {name} refers to what does not exist yet; delete "
                        f"{wanted[logical_id].physical_id}, or import it by hand (cdk import)"
                    )
                del resource["Properties"][name]
        resources[logical_id] = resource
    return template


def all_exports(templates: Mapping[str, Template]) -> frozenset[str]:
    """Return the names of the exports of several stacks."""
    return frozenset(name for template in templates.values() for name in exports(template))


def _resolvable(value: Any, known: frozenset[str], available: frozenset[str]) -> bool:
    named = {each for each in referenced_ids(value) if not each.startswith("AWS::")}
    return named <= known and imports({"value": value}) <= available


def _fixed(resource_type: str, name: str) -> bool:
    return any(path.partition("/")[0] == name for path in create_only(resource_type))
