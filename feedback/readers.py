"""Labels from CSV, JSON, JSON Lines, or the output manifest of a Ground Truth labelling job."""

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

from feedback.ground_truth import UnlabelledError, judgements
from feedback.labels import Label
from feedback.pair_text import ResponsePair, sides_of
from feedback.parse_choice import read_choice
from training.errors import DataError

_NAMES = {
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
"""Spellings of each column."""
PARTS = tuple(_NAMES)
"""What a column may be to a label."""
_SHOWN = 8
"""Kinds of problems named in one message, and lines named of each."""


@dataclass
class ReadLabels:
    """What files of labels hold.

    Attributes:
        labels: What was judged.
        unlabelled: Where nobody has judged, and what it says there.
    """

    labels: list[Label] = field(default_factory=list)
    unlabelled: list[tuple[str, str]] = field(default_factory=list)


def read_labels(paths: Sequence[Path], columns: Mapping[str, str] | None = None) -> ReadLabels:
    """Return the labels in files.

    Args:
        paths: CSV, JSON, JSON Lines or manifests.
        columns: What plays which part where a column has a name of its own, such as
            `{"choice": "overall"}`.

    Raises:
        DataError: A file cannot be read; names every line that is at fault.
    """
    found = ReadLabels()
    for path in paths:
        _read(path, dict(columns or {}), found)
    if not found.labels:
        why = f": {found.unlabelled[0][1]}" if found.unlabelled else ""
        raise DataError(f"{', '.join(map(str, paths))}: there are no labels in it{why}")
    return found


def _read(path: Path, columns: Mapping[str, str], found: ReadLabels) -> None:
    problems: dict[str, list[str]] = defaultdict(list)
    try:
        for origin, line in _lines(path):
            try:
                for where, values in judgements(origin, line):
                    _take(where, values, columns, found)
            except UnlabelledError as said:
                found.unlabelled.append((origin, str(said)))
            except ValueError as fault:
                problems[str(fault)].append(origin)
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
        raise DataError(_told(path, problems))


def _take(
    where: str, values: Mapping[str, Any], columns: Mapping[str, str], found: ReadLabels
) -> None:
    """Read one judgement; those of others on the same line are read whatever it lacks."""
    try:
        found.labels.append(_label(where, _columns(values, columns)))
    except UnlabelledError as said:
        found.unlabelled.append((where, str(said)))


def _told(path: Path, problems: Mapping[str, list[str]]) -> str:
    count = sum(map(len, problems.values()))
    lines = []
    for fault, origins in list(problems.items())[:_SHOWN]:
        where = ", ".join(origin.removeprefix(f"{path.name}:") for origin in origins[:_SHOWN])
        more = f" and {len(origins) - _SHOWN} more" if len(origins) > _SHOWN else ""
        lines.append(f"\n  {'line' if len(origins) == 1 else 'lines'} {where}{more}: {fault}")
    if len(problems) > _SHOWN:
        lines.append(f"\n  … and {len(problems) - _SHOWN} more kinds")
    labels = "label" if count == 1 else "labels"
    return f"{path}: {count} {labels} cannot be used{''.join(lines)}"


# --- lines ---------------------------------------------------------------------------------------


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what stands on each line, with where it stands."""
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


# --- one label -----------------------------------------------------------------------------------


def _columns(values: Mapping[str, Any], named: Mapping[str, str]) -> dict[str, Any]:
    """Return the record's columns by what they are called here.

    Raises:
        ValueError: A column that was named is not there.
    """
    for part, column in named.items():
        if column not in values:
            raise ValueError(
                f"there is no column {column!r} for {part}. Columns found: {', '.join(values)}"
            )
    found = {
        str(key).strip().lower().replace(" ", "_"): value
        for key, value in values.items()
        if key and key not in named.values()
    }
    for part, column in named.items():
        for other in _NAMES[part]:
            found.pop(other, None)
        found[_NAMES[part][0]] = values[column]
    return found


def _label(origin: str, columns: Mapping[str, Any]) -> Label:
    found: dict[str, Any] = {}
    for part, names in _NAMES.items():
        present = [columns[name] for name in names if columns.get(name) not in (None, "")]
        if present:
            found[part] = present[0]
    if str(columns.get("input") or "").strip() and _asks(columns, found):
        found["prompt"] = f"{found['prompt']}\n\n{columns['input']}".strip()
    who, topic, group = (str(found.get(name, "")) for name in ("annotator", "topic", "group"))
    if "first" not in found and {"chosen", "rejected"} & set(found):
        sides = _sides(found, "chosen", "rejected", columns)
        sure = (origin, sides.prompt, sides.first, sides.second, 0, who)
        return Label(*sure, ordered=False, topic=topic, group=group, given=sides.given)
    sides = _sides(found, "first", "second", columns)
    if "choice" not in found:
        if any(name in columns for name in _NAMES["choice"]):
            raise UnlabelledError("no choice was made")
        raise ValueError(_missing("choice", columns))
    choice = read_choice(found["choice"], sides.first, sides.second)
    gold = read_choice(found["gold"], sides.first, sides.second) if "gold" in found else None
    if "shown_first" in found and read_choice(found["shown_first"]) == 1:
        sides = sides.turned
        choice, gold = (None if c is None else 1 - c for c in (choice, gold))
    parts = (origin, sides.prompt, sides.first, sides.second, choice, who)
    return Label(*parts, topic=topic, group=group, gold=gold, given=sides.given)


def _asks(columns: Mapping[str, Any], found: dict[str, Any]) -> bool:
    """Return whether the prompt is an instruction, whose input has a column of its own."""
    prompt = found.setdefault("prompt", "") if "instruction" in columns else found.get("prompt")
    return isinstance(prompt, str) and prompt == (columns.get("instruction") or "")


def _sides(
    found: Mapping[str, Any], first: str, second: str, columns: Mapping[str, Any]
) -> ResponsePair:
    for part in (first, second):
        if part not in found:
            if any(name in columns for name in _NAMES[part]):
                raise UnlabelledError(f"the {part} answer is empty")
            raise ValueError(_missing(part, columns))
    try:
        sides = sides_of(found.get("prompt"), found[first], found[second])
    except ValueError:
        if any(name in columns for name in _NAMES["prompt"]):
            raise UnlabelledError("the prompt is empty") from None
        raise
    if not sides.prompt.strip():
        raise UnlabelledError("the prompt is empty")
    for part, text in ((first, sides.first), (second, sides.second)):
        if not text.strip():
            raise UnlabelledError(f"the {part} answer is empty")
    return sides


def _missing(part: str, columns: Mapping[str, Any]) -> str:
    return (
        f"no {part} (columns it may be called: {', '.join(_NAMES[part])}). Columns found: "
        f"{', '.join(columns)}. Say which it is: --columns {part}=COLUMN"
    )
