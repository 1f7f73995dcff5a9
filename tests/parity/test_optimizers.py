"""Every optimizer and scheduler that a job may name learns, and goes on with the same bits."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.run_commands import Run, assert_identical, changed, train_here

RATES = {
    "adamw": 1e-3,
    "adamw_8bit": 1e-3,
    "paged_adamw_8bit": 1e-3,
    "adafactor": 1e-2,
    "sgd": 1.0,
}
LINEAR = [0.0, 0.5, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
"""Of the peak, with two steps of warmup out of ten."""


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", RATES)
def test_optimizer_goes_on(document: dict[str, Any], tmp_path: Path, optimizer: str) -> None:
    job = changed(
        document,
        train={"optimizer": optimizer, "learning_rate": RATES[optimizer], "weight_decay": 0.01},
        checkpoint={"every": "4 steps", "keep": 5},
    )
    whole = train_here(job, tmp_path / "whole")
    assert whole.losses[-1] < whole.losses[0] - 0.1

    shutil.copytree(whole.path, tmp_path / "cut")
    for step in (8, 10):
        shutil.rmtree(tmp_path / f"cut/checkpoints/checkpoint-{step}")
    shutil.rmtree(tmp_path / "cut/model")
    again = train_here(job, tmp_path / "cut")
    assert [row["step"] for row in again.steps] == list(range(1, 11))
    assert again.losses == whole.losses
    assert_identical(again, whole)


def rates(document: dict[str, Any], path: Path, **train: Any) -> list[float]:
    job = changed(document, train={"learning_rate": 1.0e-3, "warmup": "2 steps", **train})
    return [row["learning_rate"] / 1.0e-3 for row in Run(train_here(job, path).path).steps]


def test_linear_rises_and_falls_in_a_line(document: dict[str, Any], tmp_path: Path) -> None:
    assert rates(document, tmp_path, lr_scheduler="linear") == pytest.approx(LINEAR)


@pytest.mark.parametrize("scheduler", ["cosine", "polynomial", "inverse_sqrt"])
def test_scheduler_falls_after_its_warmup(
    document: dict[str, Any], tmp_path: Path, scheduler: str
) -> None:
    found = rates(document, tmp_path, lr_scheduler=scheduler)
    assert found[:3] == pytest.approx([0.0, 0.5, 1.0])
    assert found[3:] == sorted(found[3:], reverse=True)
    assert found[-1] < 0.6


def test_constant_stays(document: dict[str, Any], tmp_path: Path) -> None:
    assert rates(document, tmp_path, lr_scheduler="constant") == pytest.approx(
        [0.0, 0.5, *[1.0] * 8]
    )


def test_stable_then_decay(document: dict[str, Any], tmp_path: Path) -> None:
    """The last fifth of what follows the warmup decays."""
    found = rates(document, tmp_path, lr_scheduler="warmup_stable_decay", max_steps=22)
    assert found[2:19] == pytest.approx([1.0] * 17)
    assert found[19:] == sorted(found[19:], reverse=True)
    assert found[-1] < 0.5
