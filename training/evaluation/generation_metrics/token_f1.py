"""Token F1: harmonic mean of precision and recall of the answer's words."""

from __future__ import annotations

from collections import Counter

from training.evaluation.generation_metrics.normalize import normalize_answer


def score(answer: str, reference: str) -> float:
    """Return the F1 of SQuAD over bags of words (Rajpurkar et al. 2016, arXiv:1606.05250).

    With c words in common, precision is c / |answer| and recall c / |reference|. If either text has
    no words, the score is 1 if both have none and 0 otherwise.
    """
    answer_words, reference_words = (normalize_answer(t).split() for t in (answer, reference))
    if not answer_words or not reference_words:
        return float(answer_words == reference_words)
    common = (Counter(answer_words) & Counter(reference_words)).total()
    return 2 * common / (len(answer_words) + len(reference_words))
