"""Statistics of each annotator: agreement, consistency, position bias, calibration items."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from feedback.labels import Label, by_pair, latest_by_voter
from safety.binomial import Proportion, at_most

_FALSE_ALARMS = 0.01
"""Probability of flagging anyone if all annotators are equally good (Bonferroni-corrected)."""
_MIN_JUDGEMENTS = 8
"""Minimum number of judgements before an annotator can be flagged."""
_MIN_GAP = 0.1
"""Minimum difference from the others: with many judgements even a tiny gap is significant."""


@dataclass
class Annotator:
    """Statistics of one annotator's judgements.

    Attributes:
        name: Name; empty for all judgements without a named annotator.
        labels: Number of judgements.
        with_majority: Agreement with the majority of all others on the same pairs.
        with_self: Agreement with the own previous judgement of the same pair.
        first: Choices of the answer shown first.
        gold: Right choices on calibration items.
        ties: Number of ties.
        flags: Reasons why the judgements are excluded; empty for a reliable annotator.
    """

    name: str
    labels: int
    with_majority: Proportion
    with_self: Proportion
    first: Proportion
    gold: Proportion
    ties: int
    flags: list[str] = field(default_factory=list)

    @property
    def weight(self) -> float:
        """Weight of a vote: 0 for a coin flip, approaching 1 for an annotator who is always right.

        With p the agreement with the majority, shrunk towards a prior of 3 in 4, it is 2p - 1.
        """
        if self.flags:
            return 0.0
        share = (self.with_majority.count + 3) / (self.with_majority.of + 4)
        return max(0.0, 2 * share - 1)


def annotator_statistics(labels: Sequence[Label]) -> list[Annotator]:
    """Return all annotators, flagged if unreliable, by descending number of judgements."""
    by_name: dict[str, list[Label]] = defaultdict(list)
    for label in labels:
        by_name[label.annotator].append(label)
    majority, repeated = _agrees_with_majority(labels), _agrees_with_self(labels)
    statistics = [
        Annotator(
            name=name,
            labels=len(own),
            with_majority=_proportion(majority[name]),
            with_self=_proportion(repeated[name]),
            first=_proportion([x.choice == 0 for x in own if x.ordered and x.choice is not None]),
            gold=_proportion([x.choice == x.gold for x in own if x.gold is not None]),
            ties=sum(label.choice is None for label in own),
        )
        for name, own in sorted(by_name.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    _flag(statistics)
    return statistics


def _flag(statistics: Sequence[Annotator]) -> None:
    """Flag annotators who differ from the others by more than chance."""
    limit = _FALSE_ALARMS / max(1, len(statistics))
    for one in (one for one in statistics if one.name):
        others = [other for other in statistics if other is not one]
        usual = _pooled([other.with_majority for other in others])
        share = one.with_majority
        if share.of >= _MIN_JUDGEMENTS and usual.of and _below(share, usual.value, limit):
            one.flags.append(
                f"agrees with the others on {share.value:.0%} of {share.of} pairs, "
                f"while they agree on {usual.value:.0%}"
            )
        right = _pooled([other.gold for other in others])
        if one.gold.of >= _MIN_JUDGEMENTS and right.of and _below(one.gold, right.value, limit):
            one.flags.append(
                f"is right on {one.gold.value:.0%} of {one.gold.of} calibration items, while the "
                f"others are right on {right.value:.0%}"
            )
        if one.first.of >= _MIN_JUDGEMENTS:
            side = max(one.first.count, one.first.of - one.first.count)
            which = "first" if side == one.first.count else "second"
            # If the order of answers was not shuffled, good annotators prefer one position too.
            usual_side = _position_share([other.first for other in others], first=which == "first")
            far = side / one.first.of >= usual_side + _MIN_GAP
            if far and 2 * at_most(one.first.of - side, one.first.of, 1 - usual_side) < limit:
                one.flags.append(
                    f"chooses the answer shown {which} {side / one.first.of:.0%} of the time"
                )


def _below(share: Proportion, usual: float, limit: float) -> bool:
    far = share.value <= usual - _MIN_GAP
    return far and at_most(share.count, share.of, usual) < limit


def _pooled(shares: Sequence[Proportion]) -> Proportion:
    return Proportion(sum(s.count for s in shares), sum(s.of for s in shares))


def _position_share(shares: Sequence[Proportion], *, first: bool) -> float:
    """Return how often the others choose one position; at least one half."""
    pooled = _pooled(shares)
    if pooled.of < _MIN_JUDGEMENTS:
        return 0.5
    return max(0.5, pooled.value if first else 1 - pooled.value)


def _proportion(values: Sequence[bool]) -> Proportion:
    return Proportion(sum(values), len(values))


def _agrees_with_majority(labels: Sequence[Label]) -> dict[str, list[bool]]:
    """Return for each annotator's votes if the majority of the others agrees; ties are omitted."""
    agrees: dict[str, list[bool]] = defaultdict(list)
    for judged in by_pair(labels).values():
        voters = latest_by_voter(judged).values()
        total = sum(label.vote for label in voters)
        for label in voters:
            rest = total - label.vote
            if rest:
                agrees[label.annotator].append(label.vote * rest > 0)
    return agrees


def _agrees_with_self(labels: Sequence[Label]) -> dict[str, list[bool]]:
    """Return for each repeated judgement of an annotator if it equals the previous one."""
    agrees: dict[str, list[bool]] = defaultdict(list)
    for judged in by_pair(labels).values():
        previous: dict[str, int] = {}
        for label in filter(lambda label: label.annotator, judged):
            if label.annotator in previous:
                agrees[label.annotator].append(label.vote == previous[label.annotator])
            previous[label.annotator] = label.vote
    return agrees
