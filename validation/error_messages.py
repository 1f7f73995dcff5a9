"""Translation of a pydantic `ValidationError` into problems with a path, a value and a fix."""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from validation.problem import Problem


@dataclass(frozen=True)
class Vocabulary:
    """Names from other tools that a file may contain, and what this project calls them.

    Attributes:
        synonyms: Key of another tool -> key here, for keys that spelling alone does not suggest.
        kinds: Path of a section and a `kind` of another tool -> message, value and fix.
        path_rewrite: Pattern and replacement, applied to every path that is reported.
    """

    synonyms: Mapping[str, str] = field(default_factory=dict)
    kinds: Mapping[tuple[str, str], tuple[str, str, str]] = field(default_factory=dict)
    path_rewrite: tuple[re.Pattern[str], str] | None = None


NO_VOCABULARY = Vocabulary()
_CONTAINERS = {
    "tuple_type": "should be a list, such as [a, b]",
    "list_type": "should be a list, such as [a, b]",
    "model_type": "should be a section with keys of its own, such as {key: value}",
    "dict_type": "should be a section with keys of its own, such as {key: value}",
    "invalid_key": "the key should be text",
}
"""Pydantic's complaints about lists and sections, in words of YAML."""


def explain(
    error: ValidationError, model: type[BaseModel], vocabulary: Vocabulary = NO_VOCABULARY
) -> list[Problem]:
    """Return one problem per path that pydantic complains about.

    Args:
        error: Error that pydantic raised.
        model: Model that was being validated.
        vocabulary: Names that people may bring from other tools.
    """
    problems: dict[str, Problem] = {}
    details = error.errors(include_url=False)
    for detail in details:
        if detail["type"] == "too_short" and any(
            _is_inside(other["loc"], detail["loc"]) for other in details
        ):
            # Pydantic counts only the valid items of a list. Once the invalid ones are fixed the
            # list may be long enough, so the complaint about its length would be misleading.
            continue
        path, section = _walk(model, detail["loc"])
        problem = _problem(path, section, detail, vocabulary)
        # Each branch of a union reports on its own; the first problem of a path is enough.
        problems.setdefault(problem.path, problem)
    return list(problems.values())


def _is_inside(loc: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(loc) > len(outer) and loc[: len(outer)] == outer


def _problem(
    path: list[str], section: type[BaseModel] | None, detail: Any, vocabulary: Vocabulary
) -> Problem:
    where = ".".join(path) or "(file)"
    if vocabulary.path_rewrite is not None:
        pattern, replacement = vocabulary.path_rewrite
        where = pattern.sub(replacement, where)
    kind, value = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        fix = _suggest_key(path[-1], section, vocabulary)
        return Problem(where, "no such key", _show(value), fix)
    if kind == "missing":
        return Problem(where, "is required")
    if kind == "union_tag_invalid":
        tag = str(detail["ctx"]["tag"])
        if path and (foreign := vocabulary.kinds.get((path[-1], tag))):
            return Problem(f"{where}.kind", *foreign)
        tags = detail["ctx"]["expected_tags"].replace("'", "").split(", ")
        key = detail["ctx"]["discriminator"].strip("'")
        return Problem(f"{where}.{key}", f"no such {key}", tag, _suggest_value(tag, tags))
    if kind == "union_tag_not_found":
        key = detail["ctx"]["discriminator"].strip("'")
        return Problem(f"{where}.{key}", "is required")
    if kind == "literal_error":
        renamed = _renamed(section).get(f"{path[-1]}: {value}") if path else None
        if renamed is not None:
            return Problem(where, "has a new spelling", _show(value), f"Write {renamed}")
        allowed = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
        fix = _suggest_value(str(value), allowed)
        return Problem(where, "not one of the choices", _show(value), fix)
    if kind in _CONTAINERS:
        return Problem(where, _CONTAINERS[kind], _show(value))
    return _plain_problem(where, detail)


def _plain_problem(where: str, detail: Any) -> Problem:
    """Return the problem of a single value, in pydantic's words where they are plain."""
    kind, value = detail["type"], detail["input"]
    if kind == "string_type" and isinstance(value, (int, float, datetime.date)):
        fix = 'Write it in quotes: "…"'
        return Problem(where, f"should be text, and YAML reads a {_kind(value)}", _show(value), fix)
    message = re.sub(r"^(Value error, |Input )", "", detail["msg"])
    message = re.sub(r"^(Tuple|List) (should .*?)( after validation)?, not ", r"\2, not ", message)
    # Validators of this project name the value in their message where it helps.
    shown = "" if kind == "value_error" and repr(value) in message else _show(value)
    return Problem(where, message[:1].lower() + message[1:], shown)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "date" if isinstance(value, datetime.date) else "number"


def _renamed(section: type[BaseModel] | None) -> Mapping[str, str]:
    """Return the former spellings that a section declares in its `renamed`."""
    renamed: Mapping[str, str] = getattr(section, "renamed", {})
    return renamed


def _suggest_value(value: str, allowed: list[str]) -> str:
    close = difflib.get_close_matches(value, allowed, n=1)
    hint = f"Did you mean {close[0]}? " if close else ""
    return f"{hint}Choose from {', '.join(allowed)}"


def _suggest_key(key: str, section: type[BaseModel] | None, vocabulary: Vocabulary) -> str:
    keys = list(section.model_fields) if section else []
    if key in _renamed(section):
        return f"It is now called {_renamed(section)[key]}"
    if vocabulary.synonyms.get(key) in keys:
        return f"Did you mean {vocabulary.synonyms[key]}?"
    if close := difflib.get_close_matches(key, keys, n=1, cutoff=0.6):
        return f"Did you mean {close[0]}?"
    return f"Keys here: {', '.join(keys)}" if keys else ""


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _walk(
    model: type[BaseModel], loc: tuple[int | str, ...]
) -> tuple[list[str], type[BaseModel] | None]:
    """Return the path as it is written in the file, and the section that holds its last key.

    Pydantic adds the branch of a union to a location (`adapter.lora.r`, `monitoring.int.page`),
    which the file does not contain.
    """
    path: list[str] = []
    section: type[BaseModel] | None = model
    candidates: list[type[BaseModel]] = []
    names_entry = False
    for step in loc:
        if names_entry:
            # A name that the user chose, which may be that of a branch: `steps: {train: …}`.
            path.append(str(step))
            names_entry = False
            continue
        branch = [candidate for candidate in candidates if _is_branch(candidate, step)]
        if branch:
            section, candidates = branch[0], []
            continue
        if isinstance(step, str) and _is_type_name(step) and path:
            continue
        if candidates:
            section = candidates[0] if len(candidates) == 1 else section
        path.append(str(step))
        info = section.model_fields.get(step) if section and isinstance(step, str) else None
        candidates = list(models_in(info.annotation)) if info else candidates
        names_entry = bool(info and candidates and get_origin(info.annotation) is dict)
    return path, section


def _is_branch(model: type[BaseModel], step: int | str) -> bool:
    """Return True if a step of a location selects this model in a union, by its tag or name."""
    kind = model.model_fields.get("kind")
    return step == model.__name__ or bool(kind and step in get_args(kind.annotation))


def _is_type_name(step: str) -> bool:
    """Return True if a step of a location is pydantic's name for a type, not a key of the file."""
    names = {"str", "int", "tuple", "list", "constrained-str", "literal"}
    return bool(re.search(r"[\[\]()]", step)) or step in names


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield every pydantic model that a type annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)
