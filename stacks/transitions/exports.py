"""References between stacks, through exports, that a deployment would break.

CloudFormation neither deletes nor changes an export while another stack imports it.
"""

from dataclasses import dataclass
from typing import Literal

from stacks.transitions.changes import replaced_ids
from stacks.transitions.references import Template, Templates, exports, imports, referenced_ids


@dataclass(frozen=True)
class ExportChange:
    """Export in use that a deployment would delete or change.

    Attributes:
        kind: "deleted", or "changed" if the exported resource is replaced.
        name: Name of the export.
        producer: Stack that exports it.
        consumers: Stacks that import it.
    """

    kind: Literal["deleted", "changed"]
    name: str
    producer: str
    consumers: tuple[str, ...]

    @property
    def refusal(self) -> str:
        """The message of CloudFormation."""
        verb = "deleted" if self.kind == "deleted" else "updated"
        return f"Export {self.name} cannot be {verb} as it is in use by {', '.join(self.consumers)}"


def export_changes(live: Templates, new: Templates) -> list[ExportChange]:
    """Return the exports in use that the templates delete or change.

    Args:
        live: Templates of the stacks in the account, by stack.
        new: Templates to deploy, by stack; a stack that is missing is deleted.
    """
    users = consumers(live)
    found: list[ExportChange] = []
    for producer, template in sorted(live.items()):
        target = new.get(producer, {})
        kept = exports(target)
        changed = _changed_exports(template, target)
        for name in sorted(exports(template)):
            using = tuple(sorted(set(users.get(name, ())) - {producer}))
            if using and name not in kept:
                found.append(ExportChange("deleted", name, producer, using))
            elif using and name in changed:
                found.append(ExportChange("changed", name, producer, using))
    return found


def consumers(templates: Templates) -> dict[str, list[str]]:
    """Return the stacks that import each export."""
    users: dict[str, list[str]] = {}
    for stack, template in templates.items():
        for name in imports(template):
            users.setdefault(name, []).append(stack)
    return users


def _changed_exports(old: Template, new: Template) -> set[str]:
    """Return the exports whose value changes, because it differs or its resource is replaced."""
    replaced = replaced_ids(old.get("Resources", {}), new.get("Resources", {}))
    changed = set()
    for name, logical_id in exports(new).items():
        value = new["Outputs"][logical_id]["Value"]
        before = exports(old).get(name)
        if before is None:
            continue
        if old["Outputs"][before]["Value"] != value or replaced & set(referenced_ids(value)):
            changed.add(name)
    return changed
