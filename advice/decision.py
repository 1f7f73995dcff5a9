"""Ranking of the approaches by the points of the rules, and what would change it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from advice.facts import (
    AFTER_TRAINING,
    APPROACHES,
    STEPS,
    TRAINED,
    Approach,
    Facts,
    Step,
    Value,
    change_text,
)
from advice.rules import AdviceRule, Bounds, read_rules

_ADVISED_STEP = 2
"""Points from which on a step before or after is advised."""
_ENOUGH = 3
_CHANGEABLE = frozenset(
    (
        "rows",
        "data_tokens",
        "adapter_load",
        "tasks",
        "changing_facts",
        "keep_general",
        "few_shot_gain",
        "answer_loss",
    )
)
"""Facts that more data, other needs or a better prompt change; others make another question."""
_FAMILIES: tuple[tuple[Approach, ...], ...] = (("prompting", "few_shot"), ("lora", "qlora"))
"""Approaches of which one at most is an alternative, because the other differs little."""


@dataclass(frozen=True)
class Reason:
    """Contribution of a rule to an approach.

    Attributes:
        rule: Id of the rule.
        points: Points that it gives to the approach.
        text: The reason with its numbers.
        source: Title of its source.
        url: Address of its source.
        finding: What the source found.
    """

    rule: str
    points: int
    text: str
    source: str
    url: str
    finding: str


@dataclass(frozen=True)
class ScoredApproach:
    """An approach with its points.

    Attributes:
        approach: The approach.
        points: Sum of the points.
        reasons: Contributions of the rules, the largest first.
        excluded: Why it is impossible; empty if it is possible.
    """

    approach: Approach
    points: int
    reasons: tuple[Reason, ...]
    excluded: str = ""


@dataclass(frozen=True)
class RankedApproaches:
    """All approaches, the advised one first, and the steps around it.

    Attributes:
        approaches: Possible approaches by points, then the excluded ones.
        steps: Steps that are advised before or after, with their reasons.
    """

    approaches: tuple[ScoredApproach, ...]
    steps: dict[Step, tuple[Reason, ...]]

    @property
    def advised(self) -> ScoredApproach | None:
        """The advised approach; None if all are excluded."""
        return self.approaches[0] if self.approaches and not self.approaches[0].excluded else None

    @property
    def alternatives(self) -> tuple[ScoredApproach, ...]:
        """The two next possible approaches that differ from the advised one."""
        possible = [scored for scored in self.approaches if not scored.excluded]
        chosen: list[ScoredApproach] = possible[:1]
        for scored in possible[1:]:
            if not any(_is_alike(scored.approach, other.approach) for other in chosen):
                chosen.append(scored)
        rest = [scored for scored in possible if scored not in chosen]
        return tuple([*chosen, *rest][1:3])


def decide(
    facts: Facts, excluded: Mapping[Approach, str], rules: Sequence[AdviceRule] | None = None
) -> RankedApproaches:
    """Return the approaches by the points of the rules that apply.

    Args:
        facts: Facts of the question.
        excluded: Why some approaches are impossible.
        rules: The rules; those of the table if left out.
    """
    applying = [rule for rule in (read_rules() if rules is None else rules) if rule.applies(facts)]
    approaches = []
    for approach in APPROACHES:
        given = [(rule, rule.points[approach]) for rule in applying if rule.points.get(approach)]
        approaches.append(
            ScoredApproach(
                approach,
                sum(points for _, points in given),
                _reasons(given, facts),
                excluded.get(approach, ""),
            )
        )
    approaches.sort(
        key=lambda scored: (
            bool(scored.excluded),
            -scored.points,
            APPROACHES.index(scored.approach),
        )
    )
    trains = approaches[0].approach in TRAINED
    steps: dict[Step, tuple[Reason, ...]] = {}
    for step in STEPS:
        if step in AFTER_TRAINING and not trains:
            continue
        given = [(rule, rule.add[step]) for rule in applying if rule.add.get(step)]
        if sum(points for _, points in given) >= _ADVISED_STEP:
            steps[step] = _reasons(given, facts)
    return RankedApproaches(tuple(approaches), steps)


def _is_alike(approach: Approach, other: Approach) -> bool:
    return any(approach in family and other in family for family in _FAMILIES)


def _reasons(given: Sequence[tuple[AdviceRule, int]], facts: Facts) -> tuple[Reason, ...]:
    reasons = [
        Reason(
            rule.id,
            points,
            rule.reason(facts),
            rule.source.title,
            rule.source.url,
            rule.source.finding,
        )
        for rule, points in given
    ]
    return tuple(sorted(reasons, key=lambda reason: -abs(reason.points)))


def changes_toward(
    approach: Approach,
    facts: Facts,
    excluded: Mapping[Approach, str],
    rules: Sequence[AdviceRule] | None = None,
) -> list[str]:
    """Return single changes of a fact after which an approach would be the advised one.

    Each bound of each rule is tried on both sides; of one fact, the nearest change is returned.

    Args:
        approach: The approach.
        facts: Facts of the question.
        excluded: Why some approaches are impossible.
        rules: The rules; those of the table if left out.
    """
    rules = read_rules() if rules is None else rules
    found: dict[str, tuple[float, str]] = {}
    for name, value, bound, upward in _changed_values(facts, rules):
        changed: dict[str, Any] = {name: value}
        advised = decide(replace(facts, **changed), excluded, rules).advised
        if advised is None or advised.approach != approach:
            continue
        distance = _distance(facts.value(name), value)
        if name not in found or distance < found[name][0]:
            found[name] = (distance, change_text(name, bound, upward=upward))
    return [text for _, text in sorted(found.values())][:_ENOUGH]


def _changed_values(
    facts: Facts, rules: Sequence[AdviceRule]
) -> Iterator[tuple[str, Value, Value, bool]]:
    """Yield name, new value, bound and direction of each change that can move a rule."""
    conditions = {(name, condition) for rule in rules for name, condition in rule.when.items()}
    for name, condition in sorted(conditions, key=str):
        now = facts.value(name)
        if name not in _CHANGEABLE or now is None:
            continue
        if not isinstance(condition, Bounds):
            yield from ((name, value, value, True) for value in condition if value != now)
            continue
        assert isinstance(now, int | float)
        for bound in (condition.min, condition.below):
            if bound is None:
                continue
            whole = isinstance(now, int)
            edge = int(bound) if whole else bound
            if now < bound:
                yield name, edge, edge, True
            elif edge > 1 or not whole:
                yield name, edge - 1 if whole else edge * 0.999, edge, False


def _distance(now: Value, then: Value) -> float:
    """Return how large a change is: the logarithm-like ratio of numbers, and 1 for a switch."""
    if (
        isinstance(now, bool)
        or not isinstance(now, int | float)
        or not isinstance(then, int | float)
    ):
        return 1.0
    low, high = sorted((abs(float(now)) + 1e-9, abs(float(then)) + 1e-9))
    return high / low - 1
