"""Holm's correction of the p-values of comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from evaluation.results import PairedResult
from safety.binomial import holm


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
