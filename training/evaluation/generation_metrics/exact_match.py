"""Exact match: 1 if the normalized answer equals the normalized reference, otherwise 0."""

from __future__ import annotations

from training.evaluation.generation_metrics.normalize import normalize_answer


def score(answer: str, reference: str) -> float:
    """Return the exact match of SQuAD (Rajpurkar et al. 2016, arXiv:1606.05250)."""
    return float(normalize_answer(answer) == normalize_answer(reference))
