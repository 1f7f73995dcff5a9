"""How well good answers are told from bad ones that answer other prompts."""

from __future__ import annotations

from itertools import groupby

import torch

from training.trainer.metrics import Sums

_PER_NAT = 100
"""Answers closer than a hundredth of a nat count as level."""
_GOOD, _BAD = "good/", "bad/"


def auc_sums(nats: torch.Tensor, good: torch.Tensor) -> Sums:
    """Return sums over a batch that `told_apart` concludes from.

    Args:
        nats: How much likelier each answer is than the reference says, [B].
        good: Whether people called it good, [B].
    """
    sums: Sums = {}
    for value, liked in zip(nats.double().cpu().tolist(), good.cpu().tolist(), strict=True):
        name = f"{_GOOD if liked else _BAD}{round(value * _PER_NAT)}"
        sums[name] = (sums.get(name, (0.0, 0))[0] + 1.0, 1)
    return sums


def is_auc_sum(name: str) -> bool:
    """Whether a sum is one of `apart_sums`."""
    return name.startswith((_GOOD, _BAD))


def auc(sums: Sums) -> dict[str, float]:
    """Return what the sums over all rows come to.

    Returns:
        `auc`: of all pairs of a good answer and a bad one, the share in which the good one rose
        more over the reference; level ones count half (the area under the ROC curve). Left out
        where there is but one kind. `good_rows` and `bad_rows`: how many there were.
    """
    placed = sorted(
        (int(name.partition("/")[2]), name.startswith(_GOOD), total)
        for name, (total, _) in sums.items()
        if is_auc_sum(name)
    )
    good = bad = above = 0.0
    for _, level in groupby(placed, key=lambda found: found[0]):
        here = {liked: total for _, liked, total in level}
        above += here.get(True, 0.0) * (bad + here.get(False, 0.0) / 2)
        good, bad = good + here.get(True, 0.0), bad + here.get(False, 0.0)
    counts = {"good_rows": good, "bad_rows": bad}
    return {"auc": above / (good * bad), **counts} if good and bad else counts
