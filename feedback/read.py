"""Labels from CSV, JSON Lines, or the output manifest of a Ground Truth labelling job."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from feedback.labels import Label
from training.errors import DataError

_NAMES = {
    "prompt": ("prompt", "question", "instruction", "source"),
    "first": ("answer_a", "response_a", "a", "first", "answer_1", "response_1"),
    "second": ("answer_b", "response_b", "b", "second", "answer_2", "response_2"),
    "chosen": ("chosen", "preferred"),
    "rejected": ("rejected", "dispreferred"),
    "choice": ("choice", "preference", "winner", "label", "better"),
    "annotator": ("annotator", "annotator_id", "worker", "worker_id", "workerid", "rater", "user"),
    "shown_first": ("shown_first",),
    "topic": ("topic", "category", "domain"),
    "group": ("group", "demographic", "language"),
    "gold": ("gold", "expected"),
}
"""Spellings of each column."""
_CHOICES: dict[str, int | None] = {
    **dict.fromkeys(("a", "answer_a", "response_a", "first", "1", "left"), 0),
    **dict.fromkeys(("b", "answer_b", "response_b", "second", "2", "right"), 1),
    **dict.fromkeys(("tie", "same", "neither", "equal", "both", "ab"), None),
}
_SHOWN = 8
"""Problems named in one message."""
_WORKERS = "annotationsFromAllWorkers"


def read_labels(path: Path) -> list[Label]:
    """Return the labels in a file.

    Raises:
        DataError: It cannot be read; names every line that is at fault, the first eight in full.
    """
    labels: list[Label] = []
    problems: list[str] = []
    try:
        for origin, values in _records(path):
            try:
                labels.append(_label(origin, values))
            except ValueError as fault:
                problems.append(f"{origin}: {fault}")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if problems:
        more = f"\n  … and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        lines = "".join(f"\n  {problem}" for problem in problems[:_SHOWN])
        raise DataError(f"{path}: {len(problems)} labels cannot be used{lines}{more}")
    if not labels:
        raise DataError(f"{path}: there are no labels in it")
    return labels


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8-sig", newline="")


def _records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with _open(path) as file:
        if path.name.removesuffix(".gz").endswith(".csv"):
            rows = csv.DictReader(file)
            for row in rows:
                yield f"{path.name}:{rows.line_num}", row
            return
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            origin = f"{path.name}:{number}"
            try:
                values = json.loads(line)
            except ValueError as error:
                raise DataError(f"{origin}: not JSON: {error}") from None
            if not isinstance(values, dict):
                raise DataError(f"{origin}: a line is an object, this is {line[:40]!r}")
            yield from _flat(origin, values)


def _flat(origin: str, values: dict[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield one record for each worker of a manifest's line; other lines as they are."""
    answers = [v[_WORKERS] for v in values.values() if isinstance(v, dict) and _WORKERS in v]
    if not answers:
        yield origin, values
        return
    asked = {k: v for k, v in values.items() if not isinstance(v, dict)}
    if isinstance(asked.get("source"), str) and asked["source"].lstrip().startswith("{"):
        asked |= json.loads(asked.pop("source"))
    for number, worker in enumerate(answers[0], start=1):
        said = worker["annotationData"]["content"]
        said = json.loads(said) if isinstance(said, str) else said
        yield f"{origin}/{number}", {**asked, **said, "annotator": worker["workerId"]}


def _label(origin: str, values: Mapping[str, Any]) -> Label:
    columns = {str(key).strip().lower().replace(" ", "_"): v for key, v in values.items() if key}
    found = {}
    for part, names in _NAMES.items():
        present = [columns[name] for name in names if columns.get(name) not in (None, "")]
        if present:
            found[part] = present[0]
    who, topic, group = (str(found.get(name, "")) for name in ("annotator", "topic", "group"))
    prompt = _text(found, "prompt")
    if "chosen" in found and "first" not in found:
        sides = (_text(found, "chosen"), _text(found, "rejected"))
        return Label(origin, prompt, *sides, 0, who, ordered=False, topic=topic, group=group)
    first, second = _text(found, "first"), _text(found, "second")
    if "choice" not in found:
        raise ValueError(f"no choice. Columns found: {', '.join(columns)}")
    choice = _choice(found["choice"])
    gold = _choice(found["gold"]) if "gold" in found else None
    if "shown_first" in found and _choice(found["shown_first"]) == 1:
        first, second = second, first
        choice, gold = (None if c is None else 1 - c for c in (choice, gold))
    return Label(origin, prompt, first, second, choice, who, topic=topic, group=group, gold=gold)


def _text(found: Mapping[str, Any], part: str) -> str:
    value = found.get(part)
    if isinstance(value, list):
        # Messages: the words are what is compared.
        value = "\n".join(str(message.get("content", "")) for message in value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"no {part} (columns it may be called: {', '.join(_NAMES[part])})")
    return value


def _choice(value: Any) -> int | None:
    """Return 0, 1 or None; a form's radio buttons may say it as `{"a": true, "b": false}`."""
    if isinstance(value, dict):
        inner = {k: next(iter(v.values())) if isinstance(v, dict) else v for k, v in value.items()}
        said = [name for name, on in inner.items() if on is True]
        value = said[0] if len(said) == 1 else value
    key = str(value).strip().lower()
    if key not in _CHOICES:
        raise ValueError(f"the choice {value!r} is none of a, b, tie (or first, second; 1, 2)")
    return _CHOICES[key]
