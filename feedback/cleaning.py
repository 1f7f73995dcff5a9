"""Cleaning of preference labels: one weighted training row per pair, and what was dropped and why.

The rules of `RULES` are applied in order. What remains becomes the training set; a vote counts by
its annotator's weight.
"""

from __future__ import annotations

from collections.abc import Sequence

from feedback.annotators import Annotator
from feedback.cleaning_rules.base import CleanedPairs, CleaningRule, CleaningState
from feedback.cleaning_rules.calibration_items import CalibrationItems
from feedback.cleaning_rules.contradictions import Contradictions
from feedback.cleaning_rules.excluded_annotators import ExcludedAnnotators
from feedback.cleaning_rules.identical_answers import IdenticalAnswers
from feedback.cleaning_rules.preference_cycles import PreferenceCycles
from feedback.cleaning_rules.repeated_judgements import RepeatedJudgements
from feedback.cleaning_rules.undecided_pairs import UndecidedPairs
from feedback.labels import Label

RULES: tuple[CleaningRule, ...] = (
    IdenticalAnswers(),
    ExcludedAnnotators(),
    CalibrationItems(),
    Contradictions(),
    RepeatedJudgements(),
    UndecidedPairs(),
    PreferenceCycles(),
)
"""Rules in the order in which they are applied: those on labels before those on pairs."""


def clean_labels(
    labels: Sequence[Label],
    annotators: Sequence[Annotator],
    unlabelled: Sequence[tuple[str, str]] = (),
) -> CleanedPairs:
    """Return the training set that the labels make.

    Args:
        labels: All labels.
        annotators: The annotators, with their flags and weights.
        unlabelled: Origins of records without a judgement, with the reason.
    """
    state = CleaningState(list(labels), annotators)
    state.result.dropped += [
        {"what": "label", "why": why, "origin": [origin]} for origin, why in unlabelled
    ]
    for rule in RULES:
        rule.apply(state)
    state.result.rows = [pair.row() for pair in state.pairs()]
    return state.result
