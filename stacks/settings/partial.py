"""Part of an environment that is valid, so that the other rules can be checked as well.

Without it the rules across settings would be checked only once every value is valid, and a person
would correct the file twice.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from stacks.settings.environment import Environment

# Values that decide what other settings mean: without them every rule would guess.
DECISIVE = {"enabled", "orchestrator", "mode", "region", "existing", "zones"}
# Values without a default, which no rule relates to others.
REPLACEMENTS = {"owner": "owner@example.com", "cost_centre": "none", "prefix": "replacement"}


def valid_part(content: dict[Any, Any], error: ValidationError) -> Environment | None:
    """Return the environment without the values that are invalid, or None if too little remains.

    Args:
        content: Content of the file.
        error: What pydantic found in it.
    """
    part = copy.deepcopy(content)
    details = error.errors(include_url=False, include_context=False)
    if any(_is_decisive(detail) for detail in details):
        return None
    # Found before anything is removed: two invalid values of one item name the same list.
    for path in [_innermost(content, detail["loc"]) for detail in details]:
        _remove(part, path)
    for key, value in REPLACEMENTS.items():
        part.setdefault(key, value)
    monitoring = part.get("monitoring")
    if isinstance(monitoring, dict):
        monitoring.setdefault("page", ["owner@example.com"])
    try:
        return Environment.model_validate(part)
    except ValidationError:
        return None


def unrelated(problems: Iterator[str], paths: Sequence[str]) -> Iterator[str]:
    """Yield the problems of other sections than those in which values are invalid.

    Args:
        problems: Problems, each of which begins with its path.
        paths: Paths of invalid values.
    """
    sections = {path.partition(".")[0] for path in paths}
    for problem in problems:
        if problem.partition(":")[0].partition(".")[0] not in sections:
            yield problem


def _is_decisive(detail: ErrorDetails) -> bool:
    loc = detail["loc"]
    misspelt_section = detail["type"] == "extra_forbidden" and len(loc) == 1
    whole_section = len(loc) == 1 and loc[0] not in (*REPLACEMENTS, "protect", "account", "name")
    return misspelt_section or whole_section or any(step in DECISIVE for step in loc)


def _innermost(content: dict[Any, Any], loc: Sequence[int | str]) -> list[int | str]:
    """Return the path of the innermost key of a location that is in the content.

    For an item of a list that is the key of the list: without one of its values the item would be
    incomplete, and without the item the list would mean something else.
    """
    place: Any = content
    path = []
    for step in loc:
        if isinstance(place, dict) and step in place:
            path.append(step)
            place = place[step]
    return path


def _remove(content: dict[Any, Any], path: Sequence[int | str]) -> None:
    """Remove the key at a path, unless it or a section around it is gone already."""
    place: Any = content
    for step in path[:-1]:
        place = place.get(step, {})
    if path:
        place.pop(path[-1], None)
