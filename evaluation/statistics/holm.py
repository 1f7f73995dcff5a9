"""Holm's correction of p-values for the number of comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from evaluation.results import PairedResult


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm, in the order given.

    With them, the chance that any of the comparisons without a difference is called different is
    at most the level (Holm 1979, https://www.jstor.org/stable/4615733).
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def adjust_comparisons(
    comparisons: Mapping[str, Mapping[str, PairedResult]],
) -> dict[str, dict[str, PairedResult]]:
    """Return comparisons, by task and metric, with `p_holm` set over all of them."""
    places = [(task, metric) for task, results in comparisons.items() for metric in results]
    adjusted = holm([comparisons[task][metric].p for task, metric in places])
    result: dict[str, dict[str, PairedResult]] = {task: {} for task in comparisons}
    for (task, metric), p_holm in zip(places, adjusted, strict=True):
        result[task][metric] = replace(comparisons[task][metric], p_holm=p_holm)
    return result
