"""Calibration and length bias of a reward model, from sums that add up over processes."""

from __future__ import annotations

import math

import torch

from training.trainer.metrics import Sums

BINS = 10


def pair_sums(scores: torch.Tensor, lengths: torch.Tensor) -> Sums:
    """Return the sums of a batch of pairs that `pair_metrics` computes its metrics from.

    Args:
        scores: Scores of the chosen answers, then of the rejected ones, [2 · pairs], in fp64.
        lengths: Tokens of the same answers, [2 · pairs].
    """
    chosen, rejected = scores.chunk(2)
    chosen_length, rejected_length = lengths.double().chunk(2)
    correct = chosen > rejected
    # Bradley-Terry probability of the preferred side, at least 0.5.
    confidence = torch.sigmoid((chosen - rejected).abs())
    sums: Sums = {}
    bins = ((confidence - 0.5) * 2 * BINS).long().clamp(max=BINS - 1)
    for number in range(BINS):
        in_bin = bins == number
        count = int(in_bin.sum())
        sums[f"sure/{number}"] = (float(confidence[in_bin].sum()), count)
        sums[f"right/{number}"] = (float(correct[in_bin].sum()), count)
    x, y, n = lengths.double(), scores, len(scores)
    moments = {"x": x, "y": y, "xx": x * x, "yy": y * y, "xy": x * y}
    sums |= {f"moment/{name}": (float(values.sum()), n) for name, values in moments.items()}
    differ = chosen_length != rejected_length
    longer_chosen = chosen_length > rejected_length
    longer_scored_higher = (correct == longer_chosen) & differ
    sums["longer/scored"] = (float(longer_scored_higher.sum()), int(differ.sum()))
    sums["longer/chosen"] = (float(longer_chosen.sum()), int(differ.sum()))
    return sums


def pair_metrics(sums: Sums) -> dict[str, float]:
    """Return the metrics from the sums over all pairs.

    Returns:
        `calibration_error`: expected calibration error, the mean distance between confidence (the
        sigmoid of the score difference) and accuracy, over ten bins (Guo et al. 2017,
        arXiv:1706.04599).
        `length_correlation`: Pearson correlation of scores and lengths in tokens.
        `longer_scored_higher`: share of pairs in which the longer answer gets the higher score;
        `longer_was_chosen`: share in which people preferred the longer answer. The difference is
        the model's own bias.
    """
    pairs = sum(sums[f"sure/{number}"][1] for number in range(BINS))
    error = sum(abs(sums[f"sure/{n}"][0] - sums[f"right/{n}"][0]) for n in range(BINS))
    mean = {k.partition("/")[2]: t / n for k, (t, n) in sums.items() if k.startswith("moment/")}
    variance_x = mean["xx"] - mean["x"] ** 2
    variance_y = mean["yy"] - mean["y"] ** 2
    # Rounding can make the variance of equal values slightly negative.
    scale = math.sqrt(max(variance_x, 0.0) * max(variance_y, 0.0))
    metrics = {
        "calibration_error": error / max(pairs, 1),
        "length_correlation": (mean["xy"] - mean["x"] * mean["y"]) / scale if scale else 0.0,
    }
    longer_scored_higher, differ = sums["longer/scored"]
    if differ:
        metrics["longer_scored_higher"] = longer_scored_higher / differ
        metrics["longer_was_chosen"] = sums["longer/chosen"][0] / differ
    return metrics
