"""The same rows in one step give the same step, however they are cut into micro-batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.run_commands import Run, changed, train_here


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, pairs: Path) -> Run:
    """Ten steps of 8 rows at once."""
    return train_here(job(tiny_model, pairs, 8), tmp_path_factory.mktemp("whole"))


def job(model: Path, pairs: Path, micro: int) -> dict[str, Any]:
    return {
        "name": "batches",
        "model": {"source": str(model)},
        "data": {"train": str(pairs), "max_length": 96, "workers": 1},
        "method": {"kind": "sft"},
        "train": {
            "max_steps": 10,
            "global_batch_size": 8,
            "micro_batch_size": micro,
            "learning_rate": 1e-3,
        },
        "tracking": {"mlflow": False},
    }


@pytest.mark.parametrize("micro", [1, 2])
def test_accumulation_changes_nothing(
    whole: Run, tiny_model: Path, pairs: Path, tmp_path: Path, micro: int
) -> None:
    parts = train_here(job(tiny_model, pairs, micro), tmp_path)
    assert parts.losses == pytest.approx(whole.losses, abs=1e-5)
    assert parts.grad_norms == pytest.approx(whole.grad_norms, rel=1e-4)
    for name, weight in parts.weights.items():
        assert (weight - whole.weights[name]).abs().max() < 1e-5, name


def test_accumulation_sees_the_same_rows(
    whole: Run, tiny_model: Path, pairs: Path, tmp_path: Path
) -> None:
    parts = train_here(job(tiny_model, pairs, 4), tmp_path)
    assert [sorted(s["ids"]) for s in parts.samples] == [sorted(s["ids"]) for s in whole.samples]


def test_a_short_last_step_is_a_mean_over_its_own_rows(
    document: dict[str, Any], tmp_path: Path
) -> None:
    """90 rows in steps of 8: the last step has two, filled up to micro-batches of 4 and 1."""
    short = changed(document, data={"limit": 90})
    short["train"] = {"global_batch_size": 8, "learning_rate": 1e-3, "num_train_epochs": 1}
    runs = [
        train_here(changed(short, train={"micro_batch_size": micro}), tmp_path / str(micro))
        for micro in (4, 1)
    ]
    last = [run.steps[-1] for run in runs]
    assert last[0]["step"] == 12
    assert last[0]["supervised_tokens"] == last[1]["supervised_tokens"] > 0
    assert last[0]["loss"] == pytest.approx(last[1]["loss"], abs=1e-5)
    assert last[0]["grad_norm"] == pytest.approx(last[1]["grad_norm"], rel=1e-4)
    assert len(runs[0].samples[-1]["ids"]) == 2


def test_loss_falls(whole: Run) -> None:
    assert whole.losses[-1] < whole.losses[0] - 0.05
