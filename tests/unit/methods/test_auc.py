"""Good answers are told from bad ones as the definition of the area under the curve says."""

from __future__ import annotations

import pytest
import torch

from training.methods.common.auc import auc, auc_sums
from training.trainer.metrics import Sums, add_sums


def test_every_pair_counts_and_level_ones_half() -> None:
    sums = auc_sums(torch.tensor([2.0, 1.0, 1.0, 0.0]), torch.tensor([True, True, False, False]))
    # 2 > 1, 2 > 0, 1 = 1, 1 > 0.
    assert auc(sums) == {"auc": 3.5 / 4, "good_rows": 2, "bad_rows": 2}


def test_it_is_the_share_of_pairs_however_rows_are_cut_into_batches() -> None:
    torch.manual_seed(0)
    good = torch.rand(200) < 0.85
    nats = (torch.randn(200) * 3 + good).mul(100).round() / 100
    parts: list[Sums] = [auc_sums(nats[i : i + 7], good[i : i + 7]) for i in range(0, 200, 7)]
    found = auc(add_sums(parts))
    apart = nats[good][:, None] - nats[~good][None]
    wanted = ((apart > 0.005).double() + (apart.abs() <= 0.005).double() / 2).mean()
    assert found["auc"] == pytest.approx(float(wanted), abs=1e-12)
    assert (found["good_rows"], found["bad_rows"]) == (int(good.sum()), int((~good).sum()))


def test_before_training_nothing_is_told_apart() -> None:
    good = torch.tensor([True, False, True])
    assert auc(auc_sums(torch.full((3,), 1e-6), good))["auc"] == 0.5


def test_of_one_kind_alone_there_is_nothing_to_say() -> None:
    assert auc(auc_sums(torch.tensor([1.0]), torch.tensor([True]))) == {
        "good_rows": 1, "bad_rows": 0,
    }  # fmt: skip
