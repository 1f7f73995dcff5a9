"""Recall and precision of a rule that finds personal data, on marked texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from preparation.recognizer.kinds import KINDS, Kind
from preparation.recognizer.training.corpus import AnnotatedText
from preparation.rows import PreparedRow
from preparation.steps.personal_data.rule import PersonalDataRule
from preparation.steps.step import Finding

COVERED = 0.9


@dataclass(slots=True)
class SpanScore:
    """Counts of marked and predicted spans.

    A marked span is found if 90 % of its characters are covered. A predicted span is right if
    more than half of its characters are in marked spans of any kind.
    """

    marked: Counter[Kind] = field(default_factory=Counter)
    found: Counter[Kind] = field(default_factory=Counter)
    predicted: Counter[Kind] = field(default_factory=Counter)
    right: Counter[Kind] = field(default_factory=Counter)

    def add(self, example: AnnotatedText, findings: Iterable[Finding]) -> None:
        """Count the spans of one text."""
        text = example.text
        truth, covered = bytearray(len(text)), bytearray(len(text))
        for start, end in [*(span[:2] for span in example.spans), *example.others]:
            truth[start:end] = b"\1" * (end - start)
        for finding in findings:
            kind = cast(Kind, finding.kind)
            covered[finding.start : finding.end] = b"\1" * (finding.end - finding.start)
            self.predicted[kind] += 1
            solid = [i for i in range(finding.start, finding.end) if not text[i].isspace()]
            if sum(truth[i] for i in solid) > len(solid) / 2:
                self.right[kind] += 1
        for span in example.spans:
            self.marked[span.kind] += 1
            if sum(covered[span.start : span.end]) >= COVERED * (span.end - span.start):
                self.found[span.kind] += 1

    def recall(self, kinds: Iterable[Kind] = KINDS) -> float:
        """Return the share of the marked spans of some kinds that was found."""
        kinds = tuple(kinds)
        return _share(sum(self.found[k] for k in kinds), sum(self.marked[k] for k in kinds))

    def precision(self, kinds: Iterable[Kind] = KINDS) -> float:
        """Return the share of the predicted spans of some kinds that is right."""
        kinds = tuple(kinds)
        return _share(sum(self.right[k] for k in kinds), sum(self.predicted[k] for k in kinds))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def findings(
    rule: PersonalDataRule, examples: Iterable[AnnotatedText]
) -> list[tuple[AnnotatedText, tuple[Finding, ...]]]:
    """Return each text with what a rule finds in it."""
    rows = [
        (example, PreparedRow(str(i), "set", "text", {"text": example.text}))
        for i, example in enumerate(examples)
    ]
    examinations = rule.examine_all([row for _, row in rows])
    return [
        (example, examination.findings)
        for (example, _), examination in zip(rows, examinations, strict=True)
    ]


def score(rule: PersonalDataRule, examples: Iterable[AnnotatedText]) -> SpanScore:
    """Score a rule on marked texts."""
    result = SpanScore()
    for example, found in findings(rule, examples):
        result.add(example, found)
    return result
