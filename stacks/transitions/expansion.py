"""Templates that keep, for one deployment, what other stacks still import.

A switch that removes a resource often removes an export as well, while the stack that imports it is
still there, or is itself about to be deleted. CloudFormation then refuses the deployment. The way
round is the one for any interface: first deploy templates that have both the new and the old parts
(expand), then delete the stacks that are no longer part of the environment, then deploy the
templates without the old parts (contract).
"""

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

from stacks.transitions.exports import ExportChange, export_changes
from stacks.transitions.references import Template, Templates, closure, referenced_ids


def expand(live: Templates, new: Templates) -> dict[str, dict[str, Any]]:
    """Return the new templates that need old parts, with these parts added, by stack.

    Args:
        live: Templates of the stacks in the account.
        new: Templates of the environment as its file says.
    """
    deleted = [each for each in export_changes(live, new) if each.kind == "deleted"]
    expanded = {}
    for producer in sorted({each.producer for each in deleted} & set(new)):
        lost = [each for each in deleted if each.producer == producer]
        expanded[producer] = _with_exports(live[producer], new[producer], lost)
    return expanded


def _with_exports(live: Template, new: Template, lost: Iterable[ExportChange]) -> dict[str, Any]:
    template: dict[str, Any] = deepcopy(dict(new))
    resources = template.setdefault("Resources", {})
    outputs = template.setdefault("Outputs", {})
    names = {each.name for each in lost}
    kept = {
        logical_id: output
        for logical_id, output in live.get("Outputs", {}).items()
        if output.get("Export", {}).get("Name") in names
    }
    outputs.update(deepcopy(kept))
    needed = closure(live, set(referenced_ids(kept)))
    for logical_id in _with_dependents(live, needed - set(resources), set(resources)):
        resources[logical_id] = deepcopy(live["Resources"][logical_id])
    return template


def _with_dependents(live: Template, needed: set[str], present: set[str]) -> set[str]:
    """Return resources and those that belong to them: a role's policies, a file system's links.

    Args:
        live: Template of the stack in the account.
        needed: Resources that stay for one deployment more.
        present: Resources of the new template.
    """
    dependents = {
        logical_id
        for logical_id, resource in live.get("Resources", {}).items()
        if logical_id not in present
        and needed & set(referenced_ids(resource.get("Properties", {})))
        and closure(live, {logical_id}) - {logical_id} <= needed | present
    }
    return needed | dependents
