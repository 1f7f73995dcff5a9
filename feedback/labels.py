"""One judgement of one person: which of two answers to a prompt is better."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Label:
    """A judgement.

    Attributes:
        origin: Where it stands: `labels.csv:12`.
        prompt: What was answered.
        first: The answer that was shown first, where that is known.
        second: The other.
        choice: 0 for `first`, 1 for `second`, None for neither.
        annotator: Who judged; empty where nobody is named.
        ordered: Whether it is known which answer was shown first.
        topic: What the prompt is about, where it is said.
        group: To whom the annotator or the prompt belongs, where it is said.
        gold: What was agreed to be right, for a calibration item; as `choice`.
        given: Prompt, first and second as the file has them, where that is not text.
    """

    origin: str
    prompt: str
    first: str
    second: str
    choice: int | None
    annotator: str = ""
    ordered: bool = True
    topic: str = ""
    group: str = ""
    gold: int | None = None
    given: tuple[Any, Any, Any] | None = None

    @property
    def voter(self) -> str:
        """Who judged. Where nobody is named, each judgement is taken for another person's."""
        return self.annotator or self.origin

    @property
    def sides(self) -> tuple[str, str]:
        """Both answers, in an order that depends on neither how they were shown nor their words.

        By the alphabet, refusals ("I am sorry") would stand together, and measures of agreement
        would take what is common for what is chance.
        """
        one, other = sorted((self.first, self.second), key=_lot)
        return one, other

    def as_given(self, answer: str) -> Any:
        """Return one of the answers as the file has it."""
        if self.given is None:
            return answer
        return self.given[1 if answer == self.first else 2]

    @property
    def pair(self) -> str:
        """What the same prompt with the same two answers is known by, however they were shown."""
        parts = "\x00".join((normal(self.prompt), *map(normal, self.sides)))
        return hashlib.sha256(parts.encode()).hexdigest()[:16]

    @property
    def vote(self) -> int:
        """1 for the first of `sides`, -1 for the second, 0 for neither."""
        if self.choice is None:
            return 0
        chosen = (self.first, self.second)[self.choice]
        return 1 if normal(chosen) == normal(self.sides[0]) else -1


def _lot(text: str) -> str:
    return hashlib.sha256(normal(text).encode()).hexdigest()


def normal(text: str) -> str:
    """Return a text without what makes copies of it look different: case and white space."""
    return " ".join(text.lower().split())


def by_pair(labels: Iterable[Label]) -> dict[str, list[Label]]:
    """Return the labels of each pair."""
    found: dict[str, list[Label]] = defaultdict(list)
    for label in labels:
        found[label.pair].append(label)
    return dict(found)


def newest(labels: Sequence[Label]) -> dict[str, Label]:
    """Return the last label of each voter among those of one pair."""
    return {label.voter: label for label in labels}
