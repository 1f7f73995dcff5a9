"""Options that save memory change no number; options that round change them a little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.run_commands import Run, changed, train_here


@pytest.fixture
def plain(document: dict[str, Any], tmp_path: Path) -> Run:
    return train_here(document, tmp_path / "plain")


@pytest.mark.parametrize("adapter", [None, {"kind": "lora", "r": 4}], ids=["full", "lora"])
def test_gradient_checkpointing_changes_nothing(
    document: dict[str, Any], tmp_path: Path, adapter: dict[str, Any] | None
) -> None:
    job = {**document, **({"adapter": adapter} if adapter else {})}
    kept = train_here(job, tmp_path / "kept")
    again = train_here(changed(job, train={"gradient_checkpointing": True}), tmp_path / "again")
    assert again.losses == pytest.approx(kept.losses, abs=1e-5)
    assert again.grad_norms == pytest.approx(kept.grad_norms, rel=1e-4)
    for name, weight in again.weights.items():
        assert (weight - kept.weights[name]).abs().max() < 1e-5, name


def test_gradient_checkpointing_keeps_dropout(document: dict[str, Any], tmp_path: Path) -> None:
    """Recomputed activations use the same dropout masks."""
    job = {**document, "adapter": {"kind": "lora", "r": 4, "dropout": 0.3}}
    kept = train_here(job, tmp_path / "kept")
    again = train_here(changed(job, train={"gradient_checkpointing": True}), tmp_path / "again")
    assert again.grad_norms == pytest.approx(kept.grad_norms, rel=1e-4)


def test_bf16_follows_fp32(document: dict[str, Any], tmp_path: Path, plain: Run) -> None:
    rounded = train_here(changed(document, precision="bf16"), tmp_path / "bf16")
    assert rounded.losses == pytest.approx(plain.losses, rel=2e-2)
    assert rounded.losses != plain.losses, "nothing was rounded: bf16 is not in use"
    assert {str(weight.dtype) for weight in rounded.weights.values()} == {"torch.float32"}


def test_bf16_takes_small_steps(document: dict[str, Any], tmp_path: Path) -> None:
    """Steps far below bf16's grain add up, because what learns is kept in fp32."""
    small = changed(document, train={"learning_rate": 1e-6, "warmup": 0})
    fp32 = train_here(small, tmp_path / "fp32")
    bf16 = train_here(changed(small, precision="bf16"), tmp_path / "bf16")
    start = train_here(
        changed(small, train={"learning_rate": 1e-12, "max_steps": 1}), tmp_path / "start"
    ).weights
    for name, before in start.items():
        moved = [(run.weights[name] - before).norm() for run in (fp32, bf16)]
        assert moved[1] == pytest.approx(float(moved[0]), rel=0.2), name
        assert moved[0] > 0
