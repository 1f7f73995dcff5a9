"""Pairs of answers to review, read from JSON Lines."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from training.errors import DataError
from validation.json_lines import split_lines

_MAX_SHOWN = 8


@dataclass(frozen=True)
class ReviewPair:
    """Pair of answers to a prompt.

    Attributes:
        prompt: The prompt.
        answer_a: One answer.
        answer_b: The other answer.
        topic: Topic of the prompt, if given.
        gold: Right choice (`a`, `b` or `tie`) of a calibration pair; empty of any other.
    """

    prompt: str
    answer_a: str
    answer_b: str
    topic: str = ""
    gold: str = ""

    @cached_property
    def id(self) -> str:
        """Digest of the texts."""
        text = json.dumps([self.prompt, self.answer_a, self.answer_b])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def shown_first(self, annotator: str) -> str:
        """Return which answer is on the left for a person: at random, and always the same."""
        return "ab"[hashlib.sha256(f"{self.id}\0{annotator}".encode()).digest()[0] % 2]

    def answer(self, name: str) -> str:
        """Return answer `a` or `b`."""
        return self.answer_a if name == "a" else self.answer_b


def read_pairs(path: Path) -> list[ReviewPair]:
    """Return the pairs of a file, without duplicates, in its order.

    Args:
        path: JSON Lines with `prompt`, `answer_a` and `answer_b`, and perhaps `topic` and `gold`,
            such as `pairs.jsonl` of `temper compare`.

    Raises:
        DataError: The file cannot be read, or lines cannot be used; names all of them.
    """
    try:
        lines = split_lines(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise DataError(f"{path} cannot be read: {reason}") from None
    pairs: dict[str, ReviewPair] = {}
    problems = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            pair = parse_pair(json.loads(line))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
            continue
        pairs.setdefault(pair.id, pair)
    if problems:
        shown = "\n  ".join(problems[:_MAX_SHOWN])
        more = f"\n  and {len(problems) - _MAX_SHOWN} more" if len(problems) > _MAX_SHOWN else ""
        raise DataError(f"{path}: lines that cannot be used: {len(problems)}\n  {shown}{more}")
    if not pairs:
        raise DataError(f"{path} has no pairs. temper compare writes them: pairs.jsonl")
    return list(pairs.values())


def parse_pair(record: Any) -> ReviewPair:
    """Return the pair of a parsed line.

    Raises:
        ValueError: It lacks a text, its answers are equal, or `gold` is no choice.
    """
    if not isinstance(record, dict):
        raise ValueError("not an object")
    texts = {key: record.get(key) for key in ("prompt", "answer_a", "answer_b")}
    missing = [key for key, text in texts.items() if not isinstance(text, str) or not text.strip()]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing, empty or no text")
    if texts["answer_a"] == texts["answer_b"]:
        raise ValueError("answer_a and answer_b are equal: there is nothing to choose between")
    gold = record.get("gold") or ""
    if gold not in ("", "a", "b", "tie"):
        raise ValueError(f"gold is {gold!r}: write a, b or tie")
    return ReviewPair(
        str(texts["prompt"]),
        str(texts["answer_a"]),
        str(texts["answer_b"]),
        topic=str(record.get("topic") or ""),
        gold=gold,
    )


def other(name: str) -> str:
    """Return `b` for `a`, and `a` for `b`."""
    return "b" if name == "a" else "a"
