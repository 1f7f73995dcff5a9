"""A preference label: one annotator's judgement of which of two answers is better."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Label:
    """Judgement of one pair of answers.

    Attributes:
        origin: Position in the files, such as `labels.csv:12`.
        prompt: The prompt.
        first: The answer shown first, if the order is known.
        second: The other answer.
        choice: 0 for `first`, 1 for `second`, None for a tie.
        annotator: Name of the annotator; empty if the file names none.
        ordered: True if it is known which answer was shown first.
        topic: Topic of the prompt, if given.
        group: Group of the annotator or the prompt, if given.
        gold: Right choice of a calibration item, coded like `choice`.
        original: Prompt, first and second as in the file, if they are not plain text.
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
    original: tuple[Any, Any, Any] | None = None

    @property
    def voter(self) -> str:
        """Identity of the annotator; without a name every label counts as another person's."""
        return self.annotator or self.origin

    @property
    def answers(self) -> tuple[str, str]:
        """Both answers in a canonical order: by a hash, which depends on neither display nor text.

        In alphabetical order refusals ("I am sorry …") would come out on one side, and measures of
        agreement would take that skew for chance agreement.
        """
        one, other = sorted((self.first, self.second), key=_digest)
        return one, other

    def original_answer(self, answer: str) -> Any:
        """Return one of the answers as in the file."""
        if self.original is None:
            return answer
        return self.original[1 if answer == self.first else 2]

    @property
    def pair(self) -> str:
        """Key of the prompt and its two answers, in whichever order they were shown."""
        parts = "\x00".join((normalize(self.prompt), *map(normalize, self.answers)))
        return hashlib.sha256(parts.encode()).hexdigest()[:16]

    @property
    def vote(self) -> int:
        """1 for the first of `answers`, -1 for the second, 0 for a tie."""
        if self.choice is None:
            return 0
        chosen = (self.first, self.second)[self.choice]
        return 1 if normalize(chosen) == normalize(self.answers[0]) else -1


def _digest(text: str) -> str:
    return hashlib.sha256(normalize(text).encode()).hexdigest()


def normalize(text: str) -> str:
    """Return a text in lower case with single spaces, so that copies of it are equal."""
    return " ".join(text.lower().split())


def by_pair(labels: Iterable[Label]) -> dict[str, list[Label]]:
    """Return the labels of each pair."""
    groups: dict[str, list[Label]] = defaultdict(list)
    for label in labels:
        groups[label.pair].append(label)
    return dict(groups)


def by_voter(labels: Iterable[Label]) -> dict[str, list[Label]]:
    """Return the labels of each voter."""
    groups: dict[str, list[Label]] = defaultdict(list)
    for label in labels:
        groups[label.voter].append(label)
    return dict(groups)


def latest_by_voter(labels: Sequence[Label]) -> dict[str, Label]:
    """Return the last label of each voter among the labels of one pair."""
    return {label.voter: label for label in labels}
