"""ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004, https://aclanthology.org/W04-1013/)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from evaluation.config.scores import Rouge
from evaluation.scores.base import AnsweredItem, ScoreContext, ScoreOutcome
from evaluation.scores.text import compare_texts
from training.evaluation.generation_metrics.rouge_l import lcs_length, words


class RougeScore:
    """F-measures of ROUGE, without stemming, the best over the targets.

    Of English text they equal those of the package rouge-score; words of other scripts count too.

    Args:
        section: Section of the score.
        context: Not used.
    """

    def __init__(self, section: Rouge, context: ScoreContext):
        self._section = section

    def score(self, items: Sequence[AnsweredItem]) -> ScoreOutcome:
        """Return `rouge1`, `rouge2` and `rougeL`."""
        compare: dict[str, Callable[[str, str], float]] = {
            "rouge1": lambda answer, target: rouge_n(answer, target, 1),
            "rouge2": lambda answer, target: rouge_n(answer, target, 2),
            "rougeL": rouge_lcs,
        }
        outcomes = [
            compare_texts(self._section, name, items, function)
            for name, function in compare.items()
        ]
        metrics = tuple(metric for outcome in outcomes for metric in outcome.metrics)
        return ScoreOutcome(metrics, outcomes[0].details)


def rouge_n(answer: str, target: str, n: int) -> float:
    """Return the F-measure of ROUGE-N of two texts.

    Args:
        answer: Generated text.
        target: Reference.
        n: Length of the n-grams, in words.
    """
    first, second = _ngrams(words(answer), n), _ngrams(words(target), n)
    return _f_measure((first & second).total(), first.total(), second.total())


def rouge_lcs(answer: str, target: str) -> float:
    """Return the F-measure of ROUGE-L of two texts."""
    first, second = words(answer), words(target)
    return _f_measure(lcs_length(first, second), len(first), len(second))


def _ngrams(tokens: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[offset:] for offset in range(n)), strict=False))


def _f_measure(common: int, in_answer: int, in_target: int) -> float:
    """Return the harmonic mean of common / in_answer and common / in_target; 0 without any."""
    return 2 * common / (in_answer + in_target) if common else 0.0
