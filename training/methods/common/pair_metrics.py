"""What the scores of pairs say about a reward model: is it sure when right, does it like length?"""

from __future__ import annotations

import math

import torch

from training.trainer.metrics import Sums

BINS = 10


def pair_sums(scores: torch.Tensor, lengths: torch.Tensor) -> Sums:
    """Return sums over a batch of pairs that `what_pairs_say` concludes from.

    Args:
        scores: Of the chosen answers, then of the rejected ones, [2B], double.
        lengths: Tokens of the same answers, [2B].
    """
    chosen, rejected = scores.chunk(2)
    long, short = lengths.double().chunk(2)
    right = chosen > rejected
    sure = torch.sigmoid((chosen - rejected).abs())
    sums: Sums = {}
    places = ((sure - 0.5) * 2 * BINS).long().clamp(max=BINS - 1)
    for place in range(BINS):
        here = places == place
        number = int(here.sum())
        sums[f"sure/{place}"] = (float(sure[here].sum()), number)
        sums[f"right/{place}"] = (float(right[here].sum()), number)
    x, y, n = lengths.double(), scores, len(scores)
    moments = {"x": x, "y": y, "xx": x * x, "yy": y * y, "xy": x * y}
    sums |= {f"moment/{name}": (float(values.sum()), n) for name, values in moments.items()}
    apart = long != short
    longer_scored = ((chosen > rejected) == (long > short)) & apart
    sums["longer/scored"] = (float(longer_scored.sum()), int(apart.sum()))
    sums["longer/chosen"] = (float((long > short).sum()), int(apart.sum()))
    return sums


def pair_metrics(sums: Sums) -> dict[str, float]:
    """Return what the sums over all pairs come to.

    Returns:
        `calibration_error`: mean distance between how sure it is (the sigmoid of the difference)
        and how often it is right, over ten bins (Guo et al. 2017, arXiv:1706.04599).
        `length_correlation`: of scores and answers' lengths in tokens (Pearson).
        `longer_scored_higher`: share of pairs in which the longer answer gets the higher score;
        `longer_was_chosen`: the share in which people preferred it. The difference is the model's.
    """
    pairs = sum(sums[f"sure/{place}"][1] for place in range(BINS))
    off = sum(abs(sums[f"sure/{p}"][0] - sums[f"right/{p}"][0]) for p in range(BINS))
    mean = {k.partition("/")[2]: t / n for k, (t, n) in sums.items() if k.startswith("moment/")}
    spread_x = mean["xx"] - mean["x"] ** 2
    spread_y = mean["yy"] - mean["y"] ** 2
    spread = math.sqrt(max(spread_x, 0.0) * max(spread_y, 0.0))
    found = {
        "calibration_error": off / max(pairs, 1),
        "length_correlation": (mean["xy"] - mean["x"] * mean["y"]) / spread if spread else 0.0,
    }
    scored, apart = sums["longer/scored"]
    if apart:
        found["longer_scored_higher"] = scored / apart
        found["longer_was_chosen"] = sums["longer/chosen"][0] / apart
    return found
