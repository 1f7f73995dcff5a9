"""BLEU and chrF of all answers of a task, by sacrebleu (Post 2018, arXiv:1804.08771).

Both are functions of counts that are summed over items, so that a bootstrap resamples counts. The
counts are those that sacrebleu's own significance tests resample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from evaluation.config.scores import Bleu, Chrf, ScoreSection
from evaluation.metric import Floats, TaskMetric
from evaluation.scores.base import AnsweredItem, ScoreContext, ScoreOutcome, metric_name


class BleuScore:
    """BLEU from 0 to 100.

    Args:
        section: Section of the score.
        context: Not used.
    """

    def __init__(self, section: Bleu, context: ScoreContext):
        from sacrebleu.metrics.bleu import BLEU

        self._section = section
        # `force` stops a warning about answers that end in " .", which sacrebleu takes for tokens.
        self._bleu = BLEU(tokenize=section.tokenize, lowercase=section.lowercase, force=True)

    def score(self, items: Sequence[AnsweredItem]) -> ScoreOutcome:
        """Return `bleu`."""
        return _corpus_outcome(self._section, "bleu", self._bleu, items)


class ChrfScore:
    """Score chrF, or chrF++ with words, from 0 to 100.

    Args:
        section: Section of the score.
        context: Not used.
    """

    def __init__(self, section: Chrf, context: ScoreContext):
        from sacrebleu.metrics.chrf import CHRF

        self._section = section
        self._chrf = CHRF(word_order=section.word_order)

    def score(self, items: Sequence[AnsweredItem]) -> ScoreOutcome:
        """Return `chrf`."""
        return _corpus_outcome(self._section, "chrf", self._chrf, items)


def _corpus_outcome(
    section: ScoreSection, name: str, metric: Any, items: Sequence[AnsweredItem]
) -> ScoreOutcome:
    """Return the outcome of a metric of sacrebleu.

    Args:
        section: Section of the score.
        name: Name of the metric.
        metric: Metric of sacrebleu.
        items: Answered items; the counts of several answers to an item are summed.
    """
    counts = np.array([_counts(metric, item) for item in items], dtype=np.float64)
    task_metric = TaskMetric(metric_name(section, name), "corpus", counts, _value_of(metric))
    return ScoreOutcome(
        (task_metric,),
        tuple({name: round(float(_value_of(metric)(row)), 2)} for row in counts),
        facts={f"{name}_signature": str(metric.get_signature())},
    )


def _counts(metric: Any, item: AnsweredItem) -> Floats:
    references = [[target] * len(item.answers) for target in item.targets]
    counts = metric._extract_corpus_statistics(list(item.answers), references)
    total: Floats = np.asarray(counts, dtype=np.float64).sum(axis=0)
    return total


def _value_of(metric: Any) -> Callable[[Floats], Floats]:
    def value_of(sums: Floats) -> Floats:
        flat = sums.reshape(-1, sums.shape[-1])
        scores = [metric._compute_score_from_stats(row.tolist()).score for row in flat]
        return np.asarray(scores, dtype=np.float64).reshape(sums.shape[:-1])

    return value_of
