"""Classification: accuracy, macro F1 and Matthews correlation of labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from evaluation.config.scores import Classification
from evaluation.metric import Floats, TaskMetric, mean_metric
from evaluation.scores.base import AnsweredItem, ScoreContext, ScoreOutcome, metric_name
from evaluation.scores.text import extract_answer
from training.errors import DataError

NONE = "(none)"
"""Prediction of an answer that names no label, or several."""


class ClassificationScore:
    """Agreement of the label in an answer with the label of its item.

    Args:
        section: Section of the score.
        context: Not used.
    """

    def __init__(self, section: Classification, context: ScoreContext):
        self._section = section

    def score(self, items: Sequence[AnsweredItem]) -> ScoreOutcome:
        """Return `accuracy`, `macro_f1` and `mcc`.

        Raises:
            DataError: A target is none of the labels.
        """
        labels = list(self._section.labels or sorted({i.targets[0] for i in items}))
        confusion = np.zeros((len(items), len(labels), len(labels) + 1))
        details = []
        for number, item in enumerate(items):
            actual = self._index(item, labels)
            predicted = [
                predict_label(
                    answer,
                    labels,
                    self._section.answer_pattern,
                    ignore_case=self._section.ignore_case,
                )
                for answer in item.answers
            ]
            for label in predicted:
                column = len(labels) if label is None else labels.index(label)
                confusion[number, actual, column] += 1 / len(item.answers)
            details.append({"predicted": [NONE if label is None else label for label in predicted]})
        diagonal = confusion[:, range(len(labels)), range(len(labels))].sum(axis=1)
        statistics = confusion.reshape(len(items), -1)
        metrics = (
            mean_metric(metric_name(self._section, "accuracy"), diagonal),
            self._corpus("macro_f1", statistics, lambda sums: macro_f1(sums, len(labels))),
            self._corpus("mcc", statistics, lambda sums: matthews(sums, len(labels))),
        )
        facts = {"labels": _report(confusion.sum(axis=0), labels)}
        return ScoreOutcome(metrics, tuple(details), facts=facts)

    def _corpus(
        self, name: str, statistics: Floats, value_of: Callable[[Floats], Floats]
    ) -> TaskMetric:
        return TaskMetric(metric_name(self._section, name), "corpus", statistics, value_of)

    def _index(self, item: AnsweredItem, labels: list[str]) -> int:
        target = item.targets[0]
        if target not in labels:
            raise DataError(
                f"score classification: item {item.id} has the target {target!r}, which is none of "
                f"the labels {', '.join(labels)}. Add it to labels, or correct the row"
            )
        return labels.index(target)


def predict_label(
    answer: str, labels: Sequence[str], pattern: str | None, *, ignore_case: bool
) -> str | None:
    """Return the label that an answer equals or, if it equals none, the only one in it.

    Args:
        answer: Generated text.
        labels: All labels.
        pattern: Regular expression that finds the answer proper.
        ignore_case: True if upper and lower case are the same.

    Returns:
        None if the answer names no label, or several.
    """

    def fold(text: str) -> str:
        return text.casefold() if ignore_case else text

    text = extract_answer(answer, pattern)
    if text is None:
        return None
    text = fold(text.strip().strip("\"'.,:;!*` "))
    folded = {fold(label): label for label in labels}
    if text in folded:
        return folded[text]
    # A label that is part of another, longer one does not count where the longer one stands.
    longest_first = sorted(folded, key=len, reverse=True)
    alternatives = "|".join(rf"(?<!\w){re.escape(label)}(?!\w)" for label in longest_first)
    named = set(re.findall(alternatives, text))
    return folded[named.pop()] if len(named) == 1 else None


def macro_f1(sums: Floats, labels: int) -> Floats:
    """Return the mean over labels of F1; a label that neither occurs nor is predicted is left out.

    Args:
        sums: Confusion matrices of shape (..., labels * (labels + 1)); the last column counts
            answers without a label.
        labels: Number of labels.
    """
    matrix = sums.reshape(*sums.shape[:-1], labels, labels + 1)
    hits = np.diagonal(matrix[..., :labels], axis1=-2, axis2=-1)
    support = matrix.sum(axis=-1) + matrix[..., :labels].sum(axis=-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.where(support > 0, 2 * hits / support, np.nan)
        counted = (support > 0).sum(axis=-1)
        return np.asarray(np.nansum(f1, axis=-1) / counted)


def matthews(sums: Floats, labels: int) -> Floats:
    """Return the Matthews correlation coefficient of several classes (Gorodkin 2004, R_K).

    It is 0 if all answers have the same label, or all targets have.

    Args:
        sums: As for `macro_f1`.
        labels: Number of labels.
    """
    matrix = sums.reshape(*sums.shape[:-1], labels, labels + 1)
    total = matrix.sum(axis=(-2, -1))
    correct = np.diagonal(matrix[..., :labels], axis1=-2, axis2=-1).sum(axis=-1)
    actual, predicted = matrix.sum(axis=-1), matrix.sum(axis=-2)
    product = (actual * predicted[..., :labels]).sum(axis=-1)
    spread = (total**2 - (predicted**2).sum(axis=-1)) * (total**2 - (actual**2).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        value = (correct * total - product) / np.sqrt(spread)
    return np.asarray(np.where(spread > 0, value, 0.0))


def _report(confusion: Floats, labels: list[str]) -> dict[str, dict[str, float]]:
    """Return precision, recall, F1 and the number of items of each label."""
    report = {}
    for number, label in enumerate(labels):
        hits = confusion[number, number]
        predicted, actual = confusion[:, number].sum(), confusion[number].sum()
        report[label] = {
            "precision": float(hits / predicted) if predicted else 0.0,
            "recall": float(hits / actual) if actual else 0.0,
            "f1": float(2 * hits / (predicted + actual)) if predicted + actual else 0.0,
            "items": float(actual),
        }
    return report
