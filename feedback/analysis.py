"""Everything there is to say about a set of labels, put together once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from feedback.agreement import Agreement, agreement
from feedback.annotators import Annotator, annotators
from feedback.biases import coverage, first_shown, longer, longer_by_gap
from feedback.binomial import Proportion
from feedback.cleaning import CleanedPairs, cleaned
from feedback.labels import Label, by_pair

_THIN = 30
"""Pairs of a topic or group below which little can be learned about it."""


@dataclass(frozen=True)
class FeedbackAnalysis:
    """What the labels come to.

    Attributes:
        labels: How many.
        pairs: Distinct prompts with two answers.
        prompts: Distinct prompts.
        agreement: Of all annotators.
        in_line: Of those that are not out of line.
        people: The annotators.
        longer: How often the longer answer was chosen.
        longer_by_gap: The same by how much longer it is.
        first: How often the answer shown first was chosen.
        topics: Labels, pairs and annotators by topic.
        groups: The same by group.
        cleaned: What is left to learn from.
    """

    labels: int
    pairs: int
    prompts: int
    agreement: Agreement
    in_line: Agreement
    people: list[Annotator]
    longer: Proportion
    longer_by_gap: list[tuple[str, Proportion]]
    first: Proportion
    topics: list[tuple[str, int, int, int]]
    groups: list[tuple[str, int, int, int]]
    cleaned: CleanedPairs

    @property
    def named(self) -> str:
        """How many people judged, in words."""
        count = sum(bool(one.name) for one in self.people)
        words = "1 person" if count == 1 else f"{count:,} people"
        if count == len(self.people):
            return words
        return f"{words} and some who are not named" if count else "people who are not named"

    @property
    def warnings(self) -> list[str]:
        """What somebody should do something about, gravest first."""
        found = []
        alpha = self.in_line.alpha
        if not self.cleaned.rows:
            found.append("Nothing is left to learn from: see below what was left out, and why.")
        if not self.agreement.pairs:
            found.append(
                "Nobody judged what another judged, so nothing can be said of agreement. Have at "
                "least one pair in ten judged by two people or more."
            )
        elif alpha is None:
            found.append(
                "All judgements that can be compared are the same, so how far agreement exceeds "
                "chance cannot be said."
            )
        elif alpha < 0.2:
            found.append(
                f"Annotators hardly agree beyond chance (Krippendorff's alpha {alpha:.2f}). Mend "
                f"the rubric and calibrate before anything is learned from these labels."
            )
        found += [f"{p.name}: {why}." for p in self.people for why in p.out_of_line]
        if self.first.of and self.first.excludes(0.5):
            found.append(f"The answer shown first is chosen {_share(self.first)}. Shuffle sides.")
        if self.longer.of and self.longer.excludes(0.5):
            side = "longer" if self.longer.value > 0.5 else "shorter"
            value = max(self.longer.value, 1 - self.longer.value)
            found.append(
                f"The {side} answer is chosen {value:.0%} of the time. A model that learns from "
                f"these labels will write {side} answers; the report of a reward model gives its "
                "own length bias."
            )
        unnamed = sum(one.labels for one in self.people if not one.name)
        if unnamed:
            found.append(
                f"{unnamed:,} labels do not say who judged. Each is taken for another person's: "
                f"who is out of line, or contradicts themselves, cannot be found among them."
            )
        for kind, rows in (("topic", self.topics), ("group", self.groups)):
            thin = [name for name, _, pairs, _ in rows if pairs < _THIN]
            if thin:
                more = f" and {len(thin) - 6} more" if len(thin) > 6 else ""
                found.append(f"Fewer than {_THIN} pairs for {kind} {', '.join(thin[:6])}{more}.")
        return found


def _share(share: Proportion) -> str:
    low, high = share.interval
    return f"{share.value:.0%} of the time (95 % interval {low:.0%} to {high:.0%})"


def analyze(
    labels: Sequence[Label], unlabelled: Sequence[tuple[str, str]] = ()
) -> FeedbackAnalysis:
    """Return what the labels come to.

    Args:
        labels: All of them.
        unlabelled: Where nobody has judged, and what it says there.
    """
    people = annotators(labels)
    left_out = {one.name for one in people if one.out_of_line}
    return FeedbackAnalysis(
        labels=len(labels),
        pairs=len(by_pair(labels)),
        prompts=len({label.prompt for label in labels}),
        agreement=agreement(labels),
        in_line=agreement([label for label in labels if label.annotator not in left_out]),
        people=people,
        longer=longer(labels),
        longer_by_gap=longer_by_gap(labels),
        first=first_shown(labels),
        topics=coverage(labels, lambda label: label.topic),
        groups=coverage(labels, lambda label: label.group),
        cleaned=cleaned(labels, people, unlabelled),
    )
