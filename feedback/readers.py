"""Reader of labels from CSV, JSON, JSON Lines and SageMaker Ground Truth output manifests."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from feedback.ground_truth import UnlabelledError, expand_judgements
from feedback.labels import Label
from feedback.pair_text import ResponsePair, parse_pair
from feedback.parse_choice import parse_choice
from training.errors import DataError

_SPELLINGS = {
    "prompt": (
        *("prompt", "question", "instruction", "conversations", "messages", "context", "history"),
        *("post", "source"),
    ),
    "first": (
        *("answer_a", "response_a", "a", "first", "answer_1", "response_1", "answer1", "response1"),
        *("candidate_a", "completion_a", "output_a", "output_1", "conversation_a"),
    ),
    "second": (
        *("answer_b", "response_b", "b", "second", "answer_2", "response_2", "answer2"),
        *("response2", "candidate_b", "completion_b", "output_b", "output_2", "conversation_b"),
    ),
    "chosen": ("chosen", "preferred"),
    "rejected": ("rejected", "dispreferred"),
    "choice": ("choice", "preference", "winner", "label", "better", "chosen", "preferred"),
    "annotator": (
        *("annotator", "annotator_id", "worker", "worker_id", "workerid", "rater", "rater_id"),
        *("labeler", "labeller", "judge", "user"),
    ),
    "shown_first": ("shown_first",),
    "topic": ("topic", "category", "domain"),
    "group": ("group", "demographic", "language"),
    "gold": ("gold", "expected"),
}
"""Accepted names of each column, preferred first."""
PARTS = tuple(_SPELLINGS)
"""Parts of a label that a column can hold."""
_MAX_SHOWN = 8
"""Maximum number of problem kinds in one message, and of lines named for each."""


@dataclass
class ReadLabels:
    """Contents of label files.

    Attributes:
        labels: The labels.
        unlabelled: Origins of records without a judgement, with the reason.
    """

    labels: list[Label] = field(default_factory=list)
    unlabelled: list[tuple[str, str]] = field(default_factory=list)


def read_labels(paths: Sequence[Path], columns: Mapping[str, str] | None = None) -> ReadLabels:
    """Return the labels in files.

    Args:
        paths: CSV, JSON, JSON Lines or manifests.
        columns: Column names by part, for names that are not recognized, such as
            `{"choice": "overall"}`.

    Raises:
        DataError: A file cannot be read, or has invalid lines; names all of them.
    """
    result = ReadLabels()
    for path in paths:
        _read_file(path, dict(columns or {}), result)
    if not result.labels:
        why = f": {result.unlabelled[0][1]}" if result.unlabelled else ""
        raise DataError(f"{', '.join(map(str, paths))}: no labels found{why}")
    return result


def _read_file(path: Path, columns: Mapping[str, str], result: ReadLabels) -> None:
    problems: dict[str, list[str]] = defaultdict(list)
    try:
        for origin, line in read_records(path):
            try:
                for label_origin, values in expand_judgements(origin, line):
                    _append_label(label_origin, values, columns, result)
            except UnlabelledError as reason:
                result.unlabelled.append((origin, str(reason)))
            except ValueError as problem:
                problems[str(problem)].append(origin)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not text in UTF-8 (byte 0x{error.object[error.start]:02x}). Save it as "
            f"CSV UTF-8 or JSON Lines"
        ) from None
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if problems:
        raise DataError(_problem_text(path, problems))


def _append_label(
    origin: str, values: Mapping[str, Any], columns: Mapping[str, str], result: ReadLabels
) -> None:
    """Append one judgement; an incomplete one must not hide the others of its line."""
    try:
        result.labels.append(_label(origin, _columns(values, columns)))
    except UnlabelledError as reason:
        result.unlabelled.append((origin, str(reason)))


def _problem_text(path: Path, problems: Mapping[str, list[str]]) -> str:
    count = sum(map(len, problems.values()))
    lines = []
    for problem, origins in list(problems.items())[:_MAX_SHOWN]:
        where = ", ".join(origin.removeprefix(f"{path.name}:") for origin in origins[:_MAX_SHOWN])
        more = f" and {len(origins) - _MAX_SHOWN} more" if len(origins) > _MAX_SHOWN else ""
        lines.append(f"\n  {'line' if len(origins) == 1 else 'lines'} {where}{more}: {problem}")
    if len(problems) > _MAX_SHOWN:
        lines.append(f"\n  … and {len(problems) - _MAX_SHOWN} more kinds")
    labels = "label" if count == 1 else "labels"
    return f"{path}: {count} {labels} cannot be used{''.join(lines)}"


# --- records --------------------------------------------------------------------------------------


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def read_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each record with its origin."""
    name = path.name.removesuffix(".gz").lower()
    with _open(path) as file:
        if name.endswith((".csv", ".tsv")):
            yield from _table(path, file)
        elif name.endswith(".json") and file.read(1) == "[":
            file.seek(0)
            for number, values in enumerate(_parsed(f"{path.name}", file.read()), start=1):
                yield f"{path.name}[{number}]", _object(f"{path.name}[{number}]", values)
        else:
            file.seek(0)
            for number, line in enumerate(file, start=1):
                if line.strip():
                    origin = f"{path.name}:{number}"
                    yield origin, _object(origin, _parsed(origin, line.lstrip("\ufeff")))


def _table(path: Path, file: TextIO) -> Iterator[tuple[str, dict[str, Any]]]:
    header = file.readline()
    file.seek(0)
    rows = csv.DictReader(file, delimiter=max(",;\t|", key=header.count))
    for row in rows:
        yield f"{path.name}:{rows.line_num}", row


def _parsed(origin: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{origin}: not JSON: {error}") from None


def _object(origin: str, values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise DataError(f"{origin}: a line is an object, this is {json.dumps(values)[:40]}")
    return values


# --- one label ------------------------------------------------------------------------------------


def _columns(values: Mapping[str, Any], named: Mapping[str, str]) -> dict[str, Any]:
    """Return the record's values by normalized column name.

    Raises:
        ValueError: A named column does not exist.
    """
    for part, column in named.items():
        if column not in values:
            raise ValueError(
                f"there is no column {column!r} for {part}. Columns found: {', '.join(values)}"
            )
    columns = {
        str(key).strip().lower().replace(" ", "_"): value
        for key, value in values.items()
        if key and key not in named.values()
    }
    for part, column in named.items():
        for other in _SPELLINGS[part]:
            columns.pop(other, None)
        columns[_SPELLINGS[part][0]] = values[column]
    return columns


def _label(origin: str, columns: Mapping[str, Any]) -> Label:
    parts: dict[str, Any] = {}
    for part, names in _SPELLINGS.items():
        present = [columns[name] for name in names if columns.get(name) not in (None, "")]
        if present:
            parts[part] = present[0]
    if str(columns.get("input") or "").strip() and _has_instruction(columns, parts):
        parts["prompt"] = f"{parts['prompt']}\n\n{columns['input']}".strip()
    annotator, topic, group = (str(parts.get(name, "")) for name in ("annotator", "topic", "group"))
    if "first" not in parts and {"chosen", "rejected"} & set(parts):
        pair = _pair(parts, "chosen", "rejected", columns)
        texts = (pair.prompt, pair.first, pair.second)
        return Label(
            origin,
            *texts,
            0,
            annotator,
            ordered=False,
            topic=topic,
            group=group,
            original=pair.original,
        )
    pair = _pair(parts, "first", "second", columns)
    if "choice" not in parts:
        if any(name in columns for name in _SPELLINGS["choice"]):
            raise UnlabelledError("no choice was made")
        raise ValueError(_missing("choice", columns))
    choice = parse_choice(parts["choice"], pair.first, pair.second)
    gold = parse_choice(parts["gold"], pair.first, pair.second) if "gold" in parts else None
    if "shown_first" in parts and parse_choice(parts["shown_first"]) == 1:
        pair = pair.swapped
        choice, gold = (None if c is None else 1 - c for c in (choice, gold))
    texts = (pair.prompt, pair.first, pair.second)
    return Label(
        origin,
        *texts,
        choice,
        annotator,
        topic=topic,
        group=group,
        gold=gold,
        original=pair.original,
    )


def _has_instruction(columns: Mapping[str, Any], parts: dict[str, Any]) -> bool:
    """Return True if the prompt is an instruction with a separate input column (Alpaca)."""
    prompt = parts.setdefault("prompt", "") if "instruction" in columns else parts.get("prompt")
    return isinstance(prompt, str) and prompt == (columns.get("instruction") or "")


def _pair(
    parts: Mapping[str, Any], first: str, second: str, columns: Mapping[str, Any]
) -> ResponsePair:
    for part in (first, second):
        if part not in parts:
            if any(name in columns for name in _SPELLINGS[part]):
                raise UnlabelledError(f"the {part} answer is empty")
            raise ValueError(_missing(part, columns))
    try:
        pair = parse_pair(parts.get("prompt"), parts[first], parts[second])
    except ValueError:
        if any(name in columns for name in _SPELLINGS["prompt"]):
            raise UnlabelledError("the prompt is empty") from None
        raise
    if not pair.prompt.strip():
        raise UnlabelledError("the prompt is empty")
    for part, text in ((first, pair.first), (second, pair.second)):
        if not text.strip():
            raise UnlabelledError(f"the {part} answer is empty")
    return pair


def _missing(part: str, columns: Mapping[str, Any]) -> str:
    return (
        f"no {part} (accepted columns: {', '.join(_SPELLINGS[part])}). Columns found: "
        f"{', '.join(columns)}. Name it with --columns {part}=COLUMN"
    )
