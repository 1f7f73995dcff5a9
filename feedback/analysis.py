"""Analysis of a set of labels: agreement, annotators, biases, coverage, and the cleaned set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from feedback.agreement import Agreement, agreement
from feedback.annotators import Annotator, annotator_statistics
from feedback.biases import coverage, first_chosen, longer_by_gap, longer_chosen
from feedback.cleaning import clean_labels
from feedback.cleaning_rules.base import CleanedPairs
from feedback.labels import Label, by_pair
from safety.binomial import Proportion

_THIN = 30
"""Number of pairs below which a topic or group is reported as thinly covered."""


@dataclass(frozen=True)
class FeedbackAnalysis:
    """Result of the analysis.

    Attributes:
        labels: Number of labels.
        pairs: Number of distinct pairs.
        prompts: Number of distinct prompts.
        agreement: Agreement of all annotators.
        reliable_agreement: Agreement without flagged annotators.
        annotators: The annotators.
        longer: How often the longer answer was chosen.
        longer_by_gap: The same by difference of length.
        first: How often the answer shown first was chosen.
        topics: Numbers of labels, pairs and annotators by topic.
        groups: The same by group.
        cleaned: The training set, and what was dropped.
    """

    labels: int
    pairs: int
    prompts: int
    agreement: Agreement
    reliable_agreement: Agreement
    annotators: list[Annotator]
    longer: Proportion
    longer_by_gap: list[tuple[str, Proportion]]
    first: Proportion
    topics: list[tuple[str, int, int, int]]
    groups: list[tuple[str, int, int, int]]
    cleaned: CleanedPairs

    @property
    def annotator_count(self) -> str:
        """Number of annotators, as text."""
        count = sum(bool(one.name) for one in self.annotators)
        words = "1 annotator" if count == 1 else f"{count:,} annotators"
        if count == len(self.annotators):
            return words
        return f"{words} and unnamed annotators" if count else "unnamed annotators"

    @property
    def warnings(self) -> list[str]:
        """Problems that need action, most serious first."""
        warnings = []
        alpha = self.reliable_agreement.alpha
        if not self.cleaned.rows:
            warnings.append("No pair is left to train on: see below what was dropped, and why.")
        if not self.agreement.pairs:
            warnings.append(
                "No pair was judged by two annotators, so agreement cannot be measured. Have at "
                "least one pair in ten judged by two annotators or more."
            )
        elif alpha is None:
            warnings.append(
                "All comparable judgements are the same, so agreement beyond chance is undefined."
            )
        elif alpha < 0.2:
            warnings.append(
                f"Annotators hardly agree beyond chance (Krippendorff's alpha {alpha:.2f}). Revise "
                f"the guidelines and calibrate the annotators before training on these labels."
            )
        warnings += [f"{p.name}: {why}." for p in self.annotators for why in p.flags]
        if self.first.of and self.first.excludes(0.5):
            warnings.append(
                f"The answer shown first is chosen {_share(self.first)}. Shuffle the order."
            )
        if self.longer.of and self.longer.excludes(0.5):
            side = "longer" if self.longer.value > 0.5 else "shorter"
            value = max(self.longer.value, 1 - self.longer.value)
            warnings.append(
                f"The {side} answer is chosen {value:.0%} of the time. A model trained on "
                f"these labels will write {side} answers; the report of a reward model shows its "
                "own length bias."
            )
        unnamed = sum(one.labels for one in self.annotators if not one.name)
        if unnamed:
            warnings.append(
                f"{unnamed:,} labels name no annotator. Each counts as another person's, so "
                f"unreliable annotators and contradictions cannot be detected among them."
            )
        for kind, rows in (("topic", self.topics), ("group", self.groups)):
            thin = [name for name, _, pairs, _ in rows if pairs < _THIN]
            if thin:
                more = f" and {len(thin) - 6} more" if len(thin) > 6 else ""
                warnings.append(f"Fewer than {_THIN} pairs for {kind} {', '.join(thin[:6])}{more}.")
        return warnings


def _share(share: Proportion) -> str:
    low, high = share.interval
    return f"{share.value:.0%} of the time (95 % interval {low:.0%} to {high:.0%})"


def analyze(
    labels: Sequence[Label], unlabelled: Sequence[tuple[str, str]] = ()
) -> FeedbackAnalysis:
    """Return the analysis of labels.

    Args:
        labels: All labels.
        unlabelled: Origins of records without a judgement, with the reason.
    """
    annotators = annotator_statistics(labels)
    flagged = {annotator.name for annotator in annotators if annotator.flags}
    return FeedbackAnalysis(
        labels=len(labels),
        pairs=len(by_pair(labels)),
        prompts=len({label.prompt for label in labels}),
        agreement=agreement(labels),
        reliable_agreement=agreement([label for label in labels if label.annotator not in flagged]),
        annotators=annotators,
        longer=longer_chosen(labels),
        longer_by_gap=longer_by_gap(labels),
        first=first_chosen(labels),
        topics=coverage(labels, lambda label: label.topic),
        groups=coverage(labels, lambda label: label.group),
        cleaned=clean_labels(labels, annotators, unlabelled),
    )
