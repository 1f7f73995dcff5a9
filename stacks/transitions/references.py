"""References in templates: to resources of the same stack, and to exports of other stacks."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

Template = Mapping[str, Any]
# By stack name.
Templates = Mapping[str, Template]
_PLACEHOLDER = re.compile(r"\$\{([A-Za-z0-9]+)(?:\.[A-Za-z0-9.]+)?\}")


def referenced_ids(value: Any) -> Iterator[str]:
    """Yield the logical ids that a part of a template names by Ref, GetAtt, Sub or DependsOn."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            if key == "Ref" and isinstance(each, str):
                yield each
            elif key == "Fn::GetAtt":
                yield each[0] if isinstance(each, list) else str(each).partition(".")[0]
            elif key == "Fn::Sub":
                text = each[0] if isinstance(each, list) else each
                yield from _PLACEHOLDER.findall(text)
                yield from referenced_ids(each)
            elif key == "DependsOn":
                yield from [each] if isinstance(each, str) else each
            else:
                yield from referenced_ids(each)
    elif isinstance(value, list):
        for each in value:
            yield from referenced_ids(each)


def imports(template: Template) -> frozenset[str]:
    """Return the names of the exports that a template imports."""
    return frozenset(_import_values(template))


def exports(template: Template) -> dict[str, str]:
    """Return the logical ids of the outputs that a template exports, by the export's name."""
    return {
        output["Export"]["Name"]: logical_id
        for logical_id, output in template.get("Outputs", {}).items()
        if "Export" in output
    }


def closure(template: Template, start: set[str]) -> set[str]:
    """Return the resources in `start` and all those that they refer to."""
    resources = template.get("Resources", {})
    found: set[str] = set()
    waiting = {each for each in start if each in resources}
    while waiting:
        logical_id = waiting.pop()
        found.add(logical_id)
        named = set(referenced_ids(resources[logical_id])) & set(resources)
        waiting |= named - found
    return found


def _import_values(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            if key == "Fn::ImportValue" and isinstance(each, str):
                yield each
            else:
                yield from _import_values(each)
    elif isinstance(value, list):
        for each in value:
            yield from _import_values(each)
