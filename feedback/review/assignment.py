"""Assignment of pairs to people: overlap, disagreements and calibration pairs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from feedback.review.pairs import ReviewPair

_OPEN_S = 900.0
"""Time for which a pair that a person has open is not given to another."""
_CALIBRATION_EVERY = 10
_MAX_LABELS = 3


@dataclass
class Assignment:
    """Order in which people see pairs.

    The order of the file is kept, in which `temper compare` puts the least certain pairs first.
    A share of the pairs is judged by two people; if they differ, by a third. Every tenth pair of a
    person is a calibration pair, while there are any.

    Attributes:
        pairs: All pairs.
        overlap: Share of the pairs that two people judge.
        now: Clock in seconds.
    """

    pairs: Sequence[ReviewPair]
    overlap: float = 0.1
    now: Callable[[], float] = time.monotonic
    _open: dict[str, tuple[str, float]] = field(default_factory=dict)

    def next(self, annotator: str, choices: Mapping[str, Mapping[str, str]]) -> ReviewPair | None:
        """Return the pair that a person judges next; None if nothing is left for this person.

        Args:
            annotator: Name of the person.
            choices: Choices so far, by pair and person.
        """
        own = [pair for pair in self.pairs if annotator in choices.get(pair.id, {})]
        left = [pair for pair in self.pairs if annotator not in choices.get(pair.id, {})]
        gold = [pair for pair in left if pair.gold]
        due = len(own) % _CALIBRATION_EVERY == _CALIBRATION_EVERY - 1
        others = [pair for pair in left if not pair.gold and self._wanted(pair, choices)]
        free = [pair for pair in others if self._is_free(pair, annotator)]
        ranked = sorted(free, key=lambda pair: not choices.get(pair.id))
        chosen = gold[0] if gold and (due or not ranked) else next(iter(ranked), None)
        if chosen is not None:
            self._open[chosen.id] = (annotator, self.now())
        return chosen

    def left(self, annotator: str, choices: Mapping[str, Mapping[str, str]]) -> int:
        """Return how many pairs are left for a person."""
        return sum(
            annotator not in choices.get(pair.id, {})
            and (bool(pair.gold) or self._wanted(pair, choices))
            for pair in self.pairs
        )

    def release(self, pair: str) -> None:
        """Note that a pair is no longer open."""
        self._open.pop(pair, None)

    def _wanted(self, pair: ReviewPair, choices: Mapping[str, Mapping[str, str]]) -> bool:
        made = [choice for choice in choices.get(pair.id, {}).values() if choice]
        if not made:
            return True
        if len(made) == 1:
            return self._overlaps(pair)
        return len(made) < _MAX_LABELS and len(set(made)) > 1

    def _overlaps(self, pair: ReviewPair) -> bool:
        draw = hashlib.sha256(f"overlap\0{pair.id}".encode()).digest()
        return int.from_bytes(draw[:4]) < self.overlap * 2**32

    def _is_free(self, pair: ReviewPair, annotator: str) -> bool:
        holder, since = self._open.get(pair.id, (annotator, 0.0))
        return holder == annotator or self.now() - since > _OPEN_S
