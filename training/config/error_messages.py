"""Turn pydantic's findings into what a person needs: the path, the value, the fix."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from training.errors import Problem

# What people call a key elsewhere, where the letters alone would not suggest ours.
_SYNONYMS = {
    "lr": "learning_rate",
    "epochs": "num_train_epochs",
    "batch_size": "global_batch_size",
    "per_device_train_batch_size": "micro_batch_size",
    "gradient_accumulation_steps": "global_batch_size",
    "lora_r": "r",
    "rank": "r",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "model_name_or_path": "source",
    "path": "source",
    "lr_scheduler_type": "lr_scheduler",
    "warmup_ratio": "warmup",
    "warmup_steps": "warmup",
    "optim": "optimizer",
    "max_seq_length": "max_length",
    "max_seq_len": "max_length",
    "stage": "zero",
    "zero_stage": "zero",
    "bf16": "precision",
    "fp16": "precision",
    "attn_implementation": "attention",
    "save_steps": "every",
    "save_total_limit": "keep",
    "eval_steps": "every",
    "peft": "adapter",
    "lora": "adapter",
}

# Kinds that people know from elsewhere: what is said, the value, and what to write here.
_KINDS_ELSEWHERE = {
    "pissa": ("is a start of lora", "pissa", "Use kind lora with init: pissa"),
    "dora": ("is a form of lora", "dora", "Use kind lora with use_dora: true"),
    "rslora": ("is a form of lora", "rslora", "Use kind lora with use_rslora: true"),
}


_COMPOSED = re.compile(r"^(stages\.\d+\.)?adapter\.(adapters|how)\b")
"""Keys that only a composition has, which people write in a section of its own."""


def explain(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Return one problem per finding, in the file's own words."""
    problems: dict[str, Problem] = {}
    findings = error.errors(include_url=False)
    for finding in findings:
        if finding["type"] == "too_short" and any(
            _inside(f["loc"], finding["loc"]) for f in findings
        ):
            # Pydantic counts only the items that were fine.
            continue
        path, section = _walk(model, finding["loc"])
        problem = _problem(path, section, finding)
        # Each branch of a union reports on its own; the first word about a path is enough.
        problems.setdefault(f"{problem.path}", problem)
    return list(problems.values())


def _inside(loc: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(loc) > len(outer) and loc[: len(outer)] == outer


def _problem(path: list[str], section: type[BaseModel] | None, finding: Any) -> Problem:
    where = _COMPOSED.sub(r"\1compose.\2", ".".join(path)) or "(file)"
    kind, value = finding["type"], finding["input"]
    if kind == "extra_forbidden":
        return Problem(where, "no such key", _show(value), _suggest(path[-1], section))
    if kind == "missing":
        return Problem(where, "is required")
    if kind == "union_tag_invalid":
        expected = finding["ctx"]["expected_tags"].replace("'", "")
        tag = str(finding["ctx"]["tag"])
        if path[-1:] == ["adapter"] and (elsewhere := _KINDS_ELSEWHERE.get(tag)):
            return Problem(f"{where}.kind", *elsewhere)
        return Problem(f"{where}.kind", "no such kind", tag, _one_of(tag, expected.split(", ")))
    if kind == "union_tag_not_found":
        return Problem(f"{where}.kind", "is required")
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", finding["ctx"]["expected"])
        return Problem(where, "not one of the choices", _show(value), _one_of(str(value), allowed))
    message = re.sub(r"^(Value error, |Input )", "", finding["msg"])
    return Problem(where, message[:1].lower() + message[1:], _show(value))


def _one_of(value: str, allowed: list[str]) -> str:
    close = difflib.get_close_matches(value, allowed, n=1)
    hint = f"Did you mean {close[0]}? " if close else ""
    return f"{hint}Choose from {', '.join(allowed)}"


def _suggest(key: str, section: type[BaseModel] | None) -> str:
    known = list(section.model_fields) if section else []
    if _SYNONYMS.get(key) in known:
        return f"Did you mean {_SYNONYMS[key]}?"
    if close := difflib.get_close_matches(key, known, n=1, cutoff=0.6):
        return f"Did you mean {close[0]}?"
    return f"Keys here: {', '.join(known)}" if known else ""


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _walk(
    model: type[BaseModel], loc: tuple[int | str, ...]
) -> tuple[list[str], type[BaseModel] | None]:
    """Return the path a person wrote, and the section that its last key stands in.

    Pydantic puts the branch of a union into the location (`adapter.lora.r`); people did not.
    """
    path: list[str] = []
    section: type[BaseModel] | None = model
    inside: list[type[BaseModel]] = []
    for step in loc:
        branch = [m for m in inside if _is_branch(m, step)]
        if branch:
            section, inside = branch[0], []
            continue
        if isinstance(step, str) and _names_a_type(step) and path:
            continue
        if inside:
            section = inside[0] if len(inside) == 1 else section
        path.append(str(step))
        field = section.model_fields.get(step) if section and isinstance(step, str) else None
        inside = list(_models(field.annotation)) if field else inside
    return path, section


def _is_branch(model: type[BaseModel], step: int | str) -> bool:
    kind = model.model_fields.get("kind")
    return bool(kind and step in get_args(kind.annotation))


def _names_a_type(step: str) -> bool:
    """Whether a step of a location is pydantic's name for a branch and no key of ours."""
    return bool(re.search(r"[\[\]()]", step)) or step in {"str", "int", "tuple", "list"}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
