"""References between the steps of a definition: Get, Std:Join and Std:JsonGet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Reference = dict[str, Any]


def get(path: str) -> Reference:
    """Return the reference to a property, such as `Steps.train.ModelArtifacts.S3ModelArtifacts`."""
    return {"Get": path}


def output_of(step: str, name: str) -> Reference:
    """Return the reference to an output of a Lambda step."""
    return get(f"Steps.{step}.OutputParameters['{name}']")


def property_of(step: str, file: str, path: str) -> Reference:
    """Return the reference to a value in a property file of a Processing step.

    Args:
        step: Name of the step.
        file: Name of the property file.
        path: Dotted path of the value.
    """
    return {
        "Std:JsonGet": {"PropertyFile": get(f"Steps.{step}.PropertyFiles.{file}"), "Path": path}
    }


def substitute(value: Any, references: Mapping[str, Reference]) -> Any:
    """Return a request in which placeholders in texts are replaced by references.

    A text that is a placeholder becomes the reference; one that contains it becomes a Std:Join.

    Args:
        value: Request, or a part of one.
        references: Reference of each placeholder.
    """
    if isinstance(value, dict):
        return {key: substitute(item, references) for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, references) for item in value]
    if not isinstance(value, str):
        return value
    for placeholder, reference in references.items():
        if value == placeholder:
            return reference
        if placeholder in value:
            before, _, after = value.partition(placeholder)
            parts = [part for part in (before, reference, after) if part != ""]
            return {"Std:Join": {"On": "", "Values": parts}}
    return value
