"""Definition of a pipeline: its steps in one list, with what each waits for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from emulator.pipelines.references import get_paths, path_parts

BRANCHES = {"IfSteps": "True", "ElseSteps": "False"}
"""Branch of a condition -> the outcome that takes it."""


@dataclass(frozen=True)
class DefinedStep:
    """Step of a definition.

    Attributes:
        name: Its name.
        kind: Its type.
        document: The step, as it is written.
        branches: Conditions that it is inside of, outermost first: name, and branch.
        waits_for: Names of steps that must succeed before.
    """

    name: str
    kind: str
    document: dict[str, Any]
    branches: tuple[tuple[str, str], ...]
    waits_for: frozenset[str]

    @property
    def arguments(self) -> Any:
        """Arguments; of a condition only what it compares."""
        arguments = self.document.get("Arguments", {})
        return arguments.get("Conditions") if self.kind == "Condition" else arguments

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs of a Lambda step."""
        return [one["OutputName"] for one in self.document.get("OutputParameters", ())]

    @property
    def property_files(self) -> dict[str, dict[str, str]]:
        """Property files by name."""
        return {one["PropertyFileName"]: one for one in self.document.get("PropertyFiles", ())}


@dataclass(frozen=True)
class ParsedDefinition:
    """Definition that the service has accepted.

    Attributes:
        text: The JSON text.
        parameters: Parameters by name.
        steps: All steps, those of branches after their condition.
    """

    text: str
    parameters: dict[str, dict[str, Any]]
    steps: tuple[DefinedStep, ...]


def parse_definition(text: str) -> ParsedDefinition:
    """Return a definition, which `definition_errors` checks.

    Raises:
        ValueError: It is not JSON, or lacks a member.
    """
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("Expecting start of Json Object.")
    if missing := {"Version", "Steps"} - document.keys():
        raise ValueError(f"Missing required field {', '.join(sorted(missing))}.")
    parameters = {one["Name"]: one for one in document.get("Parameters", ())}
    return ParsedDefinition(text, parameters, tuple(_flatten(document["Steps"], ())))


def _flatten(
    steps: list[dict[str, Any]], branches: tuple[tuple[str, str], ...]
) -> Iterator[DefinedStep]:
    for document in steps:
        if missing := {"Name", "Type"} - document.keys():
            raise ValueError(f"Missing required field {', '.join(sorted(missing))} of a step.")
        name, kind = document["Name"], document["Type"]
        arguments = document.get("Arguments", {})
        compared = arguments.get("Conditions") if kind == "Condition" else arguments
        referenced = [path_parts(path) for path in get_paths(compared)]
        waits_for = {str(parts[1]) for parts in referenced if parts[0] == "Steps"}
        waits_for |= {str(path_parts(one)[-1]) for one in document.get("DependsOn", ())}
        waits_for |= {condition for condition, _ in branches[-1:]}
        yield DefinedStep(name, kind, document, branches, frozenset(waits_for))
        if kind == "Condition":
            for branch in BRANCHES:
                yield from _flatten(arguments.get(branch, []), (*branches, (name, branch)))
