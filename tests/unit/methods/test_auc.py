"""The AUC from histogram sums equals its definition over all pairs."""

from __future__ import annotations

import pytest
import torch

from training.methods.common.auc import auc, auc_sums
from training.trainer.metrics import Sums, add_sums


def test_ties_count_half() -> None:
    sums = auc_sums(torch.tensor([2.0, 1.0, 1.0, 0.0]), torch.tensor([True, True, False, False]))
    # 2 > 1, 2 > 0, 1 = 1, 1 > 0.
    assert auc(sums) == {"auc": 3.5 / 4, "good_rows": 2, "bad_rows": 2}


def test_auc_is_the_share_of_pairs_for_any_batch_size() -> None:
    torch.manual_seed(0)
    good = torch.rand(200) < 0.85
    log_ratios = (torch.randn(200) * 3 + good).mul(100).round() / 100
    parts: list[Sums] = [auc_sums(log_ratios[i : i + 7], good[i : i + 7]) for i in range(0, 200, 7)]
    metrics = auc(add_sums(parts))
    difference = log_ratios[good][:, None] - log_ratios[~good][None]
    ties = difference.abs() <= 0.005
    expected = ((difference > 0.005).double() + ties.double() / 2).mean()
    assert metrics["auc"] == pytest.approx(float(expected), abs=1e-12)
    assert (metrics["good_rows"], metrics["bad_rows"]) == (int(good.sum()), int((~good).sum()))


def test_auc_is_one_half_before_training() -> None:
    good = torch.tensor([True, False, True])
    assert auc(auc_sums(torch.full((3,), 1e-6), good))["auc"] == 0.5


def test_auc_is_omitted_with_a_single_label() -> None:
    assert auc(auc_sums(torch.tensor([1.0]), torch.tensor([True]))) == {
        "good_rows": 1, "bad_rows": 0,
    }  # fmt: skip
