"""File of labels: a line for each judgement, in the format that `temper feedback` reads."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from feedback.review.pairs import ReviewPair
from training.errors import DataError, RunError
from training.run_folder import write_whole
from validation.json_lines import split_lines

REASONS = ("correct", "helpful", "harmless", "follows the request", "clear", "shorter")
"""Reasons that a person can tick."""


@dataclass(frozen=True)
class Judgement:
    """Judgement of a pair by one person.

    Attributes:
        pair: The pair.
        annotator: Name of the person.
        choice: `a`, `b`, `tie`, or empty for a pair that the person cannot judge.
        shown_first: `a` or `b`: the answer on the left.
        reasons: Reasons that were ticked.
        comment: Free text.
        seconds: Time from showing the pair to the judgement.
    """

    pair: ReviewPair
    annotator: str
    choice: str
    shown_first: str
    reasons: tuple[str, ...] = ()
    comment: str = ""
    seconds: float = 0.0

    def line(self) -> dict[str, Any]:
        """Return the line of the file."""
        return {
            "pair": self.pair.id,
            "prompt": self.pair.prompt,
            "answer_a": self.pair.answer_a,
            "answer_b": self.pair.answer_b,
            "choice": self.choice,
            "shown_first": self.shown_first,
            "annotator": self.annotator,
            "reasons": list(self.reasons),
            "comment": self.comment,
            "seconds": round(self.seconds, 1),
            **({"topic": self.pair.topic} if self.pair.topic else {}),
            **({"gold": self.pair.gold} if self.pair.gold else {}),
        }


class LabelFile:
    """File of labels that one server appends to.

    Args:
        path: The file, which is created if it does not exist.

    Raises:
        DataError: The file has lines that are no labels.
        RunError: Another server has the file open, or it cannot be written.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()
        self._held = _hold(path)
        _cut_unfinished_line(path)
        self._lines: list[dict[str, Any]] = []
        for number, line in enumerate(split_lines(path.read_text(encoding="utf-8")), start=1):
            try:
                record = json.loads(line)
                record["pair"], record["annotator"], record["choice"]
            except (ValueError, KeyError, TypeError):
                raise DataError(
                    f"{path}, line {number} is no label of a review. Name another file with --out"
                ) from None
            self._lines.append(record)

    def add(self, judgement: Judgement) -> bool:
        """Append a judgement; return False if the person has judged the pair before."""
        line = judgement.line()
        with self._lock:
            if (line["pair"], line["annotator"]) in self._keys():
                return False
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
            self._lines.append(line)
            return True

    def take_back(self, annotator: str) -> str | None:
        """Remove the last judgement of a person, and return the id of its pair."""
        with self._lock:
            for index in range(len(self._lines) - 1, -1, -1):
                if self._lines[index]["annotator"] == annotator:
                    removed = self._lines.pop(index)
                    text = "".join(
                        json.dumps(line, ensure_ascii=False) + "\n" for line in self._lines
                    )
                    write_whole(self.path, text)
                    return str(removed["pair"])
        return None

    def choices(self) -> dict[str, dict[str, str]]:
        """Return the choices by pair and person."""
        found: dict[str, dict[str, str]] = defaultdict(dict)
        with self._lock:
            for line in self._lines:
                found[line["pair"]][line["annotator"]] = line["choice"]
        return found

    def close(self) -> None:
        """Release the file."""
        self._held.close()

    def _keys(self) -> set[tuple[str, str]]:
        return {(line["pair"], line["annotator"]) for line in self._lines}


def _cut_unfinished_line(path: Path) -> None:
    """Remove a last line that a machine that lost power wrote in part."""
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    with suppress(ValueError):
        # A file of another origin may lack the last line feed only.
        json.loads(content[len(whole) :])
        whole = content + b"\n"
    if whole != content:
        write_whole(path, whole.decode("utf-8"))


def _hold(path: Path) -> IO[bytes]:
    """Return an open lock file, so that two servers never write the same labels.

    Raises:
        RunError: Another server holds it, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        handle = path.with_name(f".{path.name}.lock").open("wb")
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise RunError(f"{path} is open in another review: end it, or name another --out") from None
    return handle
