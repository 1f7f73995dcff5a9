"""Resolution of the references of a definition: `Get`, `Std:Join` and `Std:JsonGet`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

FUNCTIONS = ("Get", "Std:Join", "Std:JsonGet")
_PART = re.compile(r"\.?([A-Za-z0-9_-]+)|\[(\d+)\]|\['([^']+)'\]")
_NAMED_BY = ("OutputName", "InputName", "ChannelName", "Name")
"""Members by which the items of a list are addressed: `Outputs['train']`."""


class UnresolvedReference(Exception):  # noqa: N818 (a result of the service, not a program error)
    """Reference to a value that does not exist."""


def reference_of(value: Any) -> str | None:
    """Return the function of a reference; None if a value is none."""
    if isinstance(value, dict) and len(value) == 1:
        key = next(iter(value))
        return key if key in FUNCTIONS else None
    return None


def get_paths(value: Any) -> Iterator[str]:
    """Yield the path of every `Get` in a value."""
    if reference_of(value) == "Get":
        yield value["Get"]
    elif isinstance(value, dict):
        for item in value.values():
            yield from get_paths(item)
    elif isinstance(value, list):
        for item in value:
            yield from get_paths(item)


def path_parts(path: str) -> list[str | int]:
    """Return the parts of a path: `A.B['c'][0]` becomes `A`, `B`, `c`, 0.

    Raises:
        UnresolvedReference: It is not a path.
    """
    parts: list[str | int] = []
    end = 0
    while end < len(path):
        found = _PART.match(path, end)
        if found is None:
            raise UnresolvedReference(f"{path!r} is not a property path")
        parts.append(int(found[2]) if found[2] else found[1] or found[3])
        end = found.end()
    return parts


def follow(value: Any, parts: list[str | int], path: str) -> Any:
    """Return what a path leads to.

    Args:
        value: Where it begins.
        parts: Its parts.
        path: The whole path, for the message.

    Raises:
        UnresolvedReference: It leads to nothing.
    """
    for part in parts:
        if isinstance(value, list) and isinstance(part, str):
            named = [one for one in value if part in [one.get(key) for key in _NAMED_BY]]
            value = named[0] if named else None
        elif isinstance(value, list):
            value = value[part] if isinstance(part, int) and part < len(value) else None
        else:
            value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            raise UnresolvedReference(f"the property {path} does not exist")
    return value


class ReferenceResolver:
    """Resolver of references by the values of one execution.

    Args:
        parameters: Values of the parameters.
        execution: Values below `Execution`.
        step: Returns the properties of a step that has succeeded.
        property_file: Returns the content of a property file of a step.
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        execution: Mapping[str, Any],
        step: Callable[[str], Mapping[str, Any]],
        property_file: Callable[[str, str], Any],
    ):
        self._parameters, self._execution = parameters, execution
        self._step, self._property_file = step, property_file

    def resolve(self, value: Any) -> Any:
        """Return a value without references.

        Raises:
            UnresolvedReference: A reference leads to nothing.
        """
        function = reference_of(value)
        if function == "Get":
            return self._get(value["Get"])
        if function == "Std:Join":
            joined = value["Std:Join"]
            return joined["On"].join(_text(self.resolve(one)) for one in joined["Values"])
        if function == "Std:JsonGet":
            return self._json_get(value["Std:JsonGet"])
        if isinstance(value, dict):
            return {key: self.resolve(item) for key, item in value.items()}
        return [self.resolve(item) for item in value] if isinstance(value, list) else value

    def _get(self, path: str) -> Any:
        root, *parts = path_parts(path)
        if root == "Parameters":
            return follow(dict(self._parameters), parts, path)
        if root == "Execution":
            return follow(dict(self._execution), parts, path)
        return follow(dict(self._step(str(parts[0]))), parts[1:], path)

    def _json_get(self, arguments: Mapping[str, Any]) -> Any:
        _, step, _, name = path_parts(arguments["PropertyFile"]["Get"])
        path = self.resolve(arguments["Path"])
        return follow(self._property_file(str(step), str(name)), path_parts(path), path)


def _text(value: Any) -> str:
    """Return a value as the service joins it: numbers and truth values as JSON has them."""
    return str(value).lower() if isinstance(value, bool) else str(value)
