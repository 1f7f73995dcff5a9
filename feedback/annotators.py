"""Each annotator beside the others: agreement, consistency, position, calibration items."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from feedback.binomial import Proportion, at_most
from feedback.labels import Label, by_pair, newest

_FALSE_ALARMS = 0.01
"""Chance of flagging anybody among annotators who are all alike."""
_LEAST = 8
"""Judgements from which on anything is said of an annotator."""
_LEAST_GAP = 0.1
"""How far from the others is far: among a thousand judgements chance explains no small gap."""


@dataclass
class Annotator:
    """What one annotator's judgements come to.

    Attributes:
        name: Who; empty for all judgements whose annotator is not named.
        labels: Judgements.
        with_majority: Agreement with the majority of all others on the same pairs.
        with_self: Agreement with an own earlier judgement of the same pair.
        first: Choices of the answer shown first.
        gold: Right answers to calibration items.
        ties: Judgements for neither.
        out_of_line: Why their judgements are left out; empty where they are not.
    """

    name: str
    labels: int
    with_majority: Proportion
    with_self: Proportion
    first: Proportion
    gold: Proportion
    ties: int
    out_of_line: list[str] = field(default_factory=list)

    @property
    def weight(self) -> float:
        """What a vote counts: 0 for one that is as good as a coin, towards 1 for one always right.

        Taken from agreement with the majority, drawn a little towards one half.
        """
        if self.out_of_line:
            return 0.0
        share = (self.with_majority.count + 3) / (self.with_majority.of + 4)
        return max(0.0, 2 * share - 1)


def annotators(labels: Sequence[Label]) -> list[Annotator]:
    """Return all annotators, those who judged most first, and flag those out of line."""
    by_name: dict[str, list[Label]] = defaultdict(list)
    for label in labels:
        by_name[label.annotator].append(label)
    majority, again = _beside_others(labels), _beside_self(labels)
    found = [
        Annotator(
            name=name,
            labels=len(own),
            with_majority=_share(majority[name]),
            with_self=_share(again[name]),
            first=_share([x.choice == 0 for x in own if x.ordered and x.choice is not None]),
            gold=_share([x.choice == x.gold for x in own if x.gold is not None]),
            ties=sum(label.choice is None for label in own),
        )
        for name, own in sorted(by_name.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    _flag(found)
    return found


def _flag(found: Sequence[Annotator]) -> None:
    """Mark those whose judgements chance does not explain."""
    limit = _FALSE_ALARMS / max(1, len(found))
    for one in (one for one in found if one.name):
        others = [other for other in found if other is not one]
        usual = _pooled([other.with_majority for other in others])
        share = one.with_majority
        if share.of >= _LEAST and usual.of and _below(share, usual.value, limit):
            one.out_of_line.append(
                f"agrees with the others on {share.value:.0%} of {share.of} pairs, "
                f"where they agree on {usual.value:.0%}"
            )
        right = _pooled([other.gold for other in others])
        if one.gold.of >= _LEAST and right.of and _below(one.gold, right.value, limit):
            one.out_of_line.append(
                f"is right on {one.gold.value:.0%} of {one.gold.of} calibration items, where the "
                f"others are on {right.value:.0%}"
            )
        if one.first.of >= _LEAST:
            side = max(one.first.count, one.first.of - one.first.count)
            which = "first" if side == one.first.count else "second"
            # Where sides were not shuffled, all who judge well lean to one of them.
            usual_side = _leaning([other.first for other in others], first=which == "first")
            far = side / one.first.of >= usual_side + _LEAST_GAP
            if far and 2 * at_most(one.first.of - side, one.first.of, 1 - usual_side) < limit:
                one.out_of_line.append(
                    f"chooses the answer shown {which} {side / one.first.of:.0%} of the time"
                )


def _below(share: Proportion, usual: float, limit: float) -> bool:
    far = share.value <= usual - _LEAST_GAP
    return far and at_most(share.count, share.of, usual) < limit


def _pooled(shares: Sequence[Proportion]) -> Proportion:
    return Proportion(sum(s.count for s in shares), sum(s.of for s in shares))


def _leaning(shares: Sequence[Proportion], *, first: bool) -> float:
    """Return how often the others choose one side, and at least half of the time."""
    pooled = _pooled(shares)
    if pooled.of < _LEAST:
        return 0.5
    return max(0.5, pooled.value if first else 1 - pooled.value)


def _share(values: Sequence[bool]) -> Proportion:
    return Proportion(sum(values), len(values))


def _beside_others(labels: Sequence[Label]) -> dict[str, list[bool]]:
    """Return for each annotator whether each vote is that of most others; draws are left out."""
    found: dict[str, list[bool]] = defaultdict(list)
    for judged in by_pair(labels).values():
        voters = newest(judged).values()
        total = sum(label.vote for label in voters)
        for label in voters:
            rest = total - label.vote
            if rest:
                found[label.annotator].append(label.vote * rest > 0)
    return found


def _beside_self(labels: Sequence[Label]) -> dict[str, list[bool]]:
    """Return for each annotator whether a judgement repeats the one before of the same pair."""
    found: dict[str, list[bool]] = defaultdict(list)
    for judged in by_pair(labels).values():
        before: dict[str, int] = {}
        for label in filter(lambda label: label.annotator, judged):
            if label.annotator in before:
                found[label.annotator].append(label.vote == before[label.annotator])
            before[label.annotator] = label.vote
    return found
