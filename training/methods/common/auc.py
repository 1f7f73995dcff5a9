"""Area under the ROC curve of unpaired answers, from sums that add up over processes.

An AUC is not a mean over rows, so that it cannot be reduced like other metrics. Instead, each
process counts rows in a histogram of rounded log-ratios, whose bins are sums like any other.
"""

from __future__ import annotations

from itertools import groupby

import torch

from training.trainer.metrics import Sums

_BINS_PER_NAT = 100
"""Log-ratios are rounded to a hundredth of a nat; answers in one bin are tied."""
_GOOD, _BAD = "good/", "bad/"


def auc_sums(log_ratios: torch.Tensor, good: torch.Tensor) -> Sums:
    """Return the sums of a batch that `auc` computes the metric from.

    Args:
        log_ratios: Log-probability of each answer minus the reference's, in nats, [batch].
        good: True for answers labelled good, [batch].
    """
    sums: Sums = {}
    values = log_ratios.cpu().double().tolist()
    for value, is_good in zip(values, good.cpu().tolist(), strict=True):
        name = f"{_GOOD if is_good else _BAD}{round(value * _BINS_PER_NAT)}"
        sums[name] = (sums.get(name, (0.0, 0))[0] + 1.0, 1)
    return sums


def is_auc_sum(name: str) -> bool:
    """Return True if a sum is one of `auc_sums`."""
    return name.startswith((_GOOD, _BAD))


def auc(sums: Sums) -> dict[str, float]:
    """Return the AUC and the row counts from the sums over all rows.

    Returns:
        `auc`: the share of all pairs of a good and a bad answer in which the good one has the
        higher log-ratio; ties count half. Omitted unless there are rows of both kinds.
        `good_rows` and `bad_rows`: number of rows of each kind.
    """
    bins = sorted(
        (int(name.partition("/")[2]), name.startswith(_GOOD), total)
        for name, (total, _) in sums.items()
        if is_auc_sum(name)
    )
    good = bad = ordered_pairs = 0.0
    for _, tied in groupby(bins, key=lambda one: one[0]):
        counts = {is_good: total for _, is_good, total in tied}
        ordered_pairs += counts.get(True, 0.0) * (bad + counts.get(False, 0.0) / 2)
        good, bad = good + counts.get(True, 0.0), bad + counts.get(False, 0.0)
    rows = {"good_rows": good, "bad_rows": bad}
    return {"auc": ordered_pairs / (good * bad), **rows} if good and bad else rows
