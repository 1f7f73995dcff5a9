"""Base classes of the cleaning rules, and the state that they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from feedback.annotators import Annotator
from feedback.labels import Label, by_pair, latest_by_voter, normalize


@dataclass
class CleanedPairs:
    """Result of the cleaning.

    Attributes:
        rows: `prompt`, `chosen`, `rejected`, `weight`, `votes`, `topic`, `group`.
        dropped: `what` was dropped (a label, a pair), `why`, and its `origin` in the files.
        dropped_by_rule: Number of labels or pairs dropped, by the rule's name.
        contradictions: Pairs that an annotator judged both ways.
        cycles: Preference cycles among the answers to one prompt, each as a list of answers.
        duplicates: Labels that repeat one of the same annotator.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    dropped_by_rule: Counter[str] = field(default_factory=Counter)
    contradictions: int = 0
    cycles: list[list[str]] = field(default_factory=list)
    duplicates: int = 0


@dataclass(frozen=True)
class PairVotes:
    """Votes on one pair of answers.

    Attributes:
        key: Key of the pair.
        judged: All labels of the pair, those without a vote too.
        votes: The last label of each voter, with the weight of its annotator.
    """

    key: str
    judged: Sequence[Label]
    votes: Sequence[tuple[Label, float]]

    @property
    def total(self) -> float:
        """Sum of the weights."""
        return sum(weight for _, weight in self.votes)

    @property
    def lean(self) -> float:
        """Weighted sum of the votes: above 0 for the first answer, below 0 for the second."""
        return sum(label.vote * weight for label, weight in self.votes)

    @property
    def margin(self) -> float:
        """Weighted majority, from 0 (even) to 1 (unanimous)."""
        return round(abs(self.lean) / self.total, 4)

    @property
    def order(self) -> tuple[str, str]:
        """The chosen and the rejected answer, normalized."""
        chosen, rejected = self._decided
        return normalize(chosen), normalize(rejected)

    @property
    def _decided(self) -> tuple[str, str]:
        first, second = self.votes[0][0].answers
        return (first, second) if self.lean > 0 else (second, first)

    def row(self) -> dict[str, Any]:
        """Return the training row."""
        label = self.votes[0][0]
        chosen, rejected = self._decided
        return {
            "prompt": label.prompt if label.original is None else label.original[0],
            "chosen": label.original_answer(chosen),
            "rejected": label.original_answer(rejected),
            "weight": self.margin,
            "votes": [sum(v.vote * self.lean > 0 for v, _ in self.votes), len(self.votes)],
            **({"topic": label.topic} if label.topic else {}),
            **({"group": label.group} if label.group else {}),
        }


@dataclass
class CleaningState:
    """Labels and pairs that the rules have not dropped yet.

    Attributes:
        labels: Labels left by the rules on labels.
        annotators: The annotators, with the weights of their votes.
        result: Result so far.
        void: Identities (`id`) of labels without a vote on their pair.
        dropped_pairs: Keys of dropped pairs.
    """

    labels: list[Label]
    annotators: Sequence[Annotator]
    result: CleanedPairs = field(default_factory=CleanedPairs)
    void: set[int] = field(default_factory=set)
    dropped_pairs: set[str] = field(default_factory=set)

    @cached_property
    def judged(self) -> dict[str, list[Label]]:
        """Labels by pair; grouped when the first rule on pairs reads it."""
        return by_pair(self.labels)

    @cached_property
    def weights(self) -> dict[str, float]:
        """Weight of a vote by annotator; 1 if there is one annotator only."""
        weights = {annotator.name: annotator.weight for annotator in self.annotators}
        return dict.fromkeys(weights, 1.0) if len(weights) == 1 else weights

    def pairs(self) -> list[PairVotes]:
        """Return the remaining pairs with their votes."""
        remaining = []
        for key, judged in self.judged.items():
            if key not in self.dropped_pairs:
                votes = [
                    (label, self.weights[label.annotator])
                    for label in latest_by_voter(judged).values()
                    if id(label) not in self.void
                ]
                remaining.append(PairVotes(key, judged, votes))
        return remaining

    def drop(self, rule: CleaningRule, what: str, why: str, labels: Sequence[Label]) -> None:
        """Record what a rule drops.

        Args:
            rule: The rule.
            what: `label` or `pair`.
            why: Reason, for the report.
            labels: Labels concerned.
        """
        origins = [label.origin for label in labels]
        self.result.dropped.append({"what": what, "why": why, "origin": origins})
        self.result.dropped_by_rule[rule.name] += len(labels) if what == "label" else 1

    def drop_pair(self, rule: CleaningRule, pair: PairVotes, why: str) -> None:
        """Drop a pair.

        Args:
            rule: The rule.
            pair: The pair.
            why: Reason, for the report.
        """
        self.drop(rule, "pair", why, pair.judged)
        self.dropped_pairs.add(pair.key)


class CleaningRule(ABC):
    """Rule that drops labels or pairs."""

    name: ClassVar[str]

    @abstractmethod
    def apply(self, state: CleaningState) -> None:
        """Drop what the rule is about, and record it."""


class LabelRule(CleaningRule):
    """Rule that decides on each label by itself."""

    @abstractmethod
    def reason(self, label: Label, state: CleaningState) -> str | None:
        """Return why a label is dropped; None to keep it."""

    def apply(self, state: CleaningState) -> None:
        """Drop every label that has a reason."""
        kept = []
        for label in state.labels:
            if (why := self.reason(label, state)) is None:
                kept.append(label)
            else:
                state.drop(self, "label", why, [label])
        state.labels = kept
