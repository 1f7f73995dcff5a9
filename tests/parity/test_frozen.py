"""Frozen parameters stay bit-identical; all others are trained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.run_commands import changed, read_weights, train_here

CASES: dict[str, tuple[dict[str, Any], str]] = {
    "layers": ({"layers": 1}, r"layers\.0\."),
    "embeddings": ({"embeddings": True}, r"embed_tokens"),
    "patterns": ({"patterns": [r"mlp\.", r"norm\.weight$"]}, r"mlp\.|norm\.weight$"),
    "all of it": (
        {"layers": 1, "embeddings": True, "patterns": ["lm_head"]},
        r"layers\.0\.|embed_tokens|lm_head",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_frozen_tensors_stay(
    document: dict[str, Any], tiny_model: Path, tmp_path: Path, case: str
) -> None:
    freeze, pattern = CASES[case]
    # Weight decay would move even what has no gradient, were it handed to the optimizer.
    job = changed(document, model={"freeze": freeze}, train={"weight_decay": 0.1})
    run = train_here(job, tmp_path / "run")
    start = read_weights(tiny_model)
    frozen = {name for name in start if re.search(pattern, name)}
    stayed = {name for name, weight in run.weights.items() if torch.equal(weight, start[name])}
    assert frozen
    assert stayed == frozen


def test_frozen_tensors_stay_through_a_resume(
    document: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    """A checkpoint that forgets what is frozen brings it back as random weights."""
    job = changed(document, model={"freeze": {"layers": 1}}, checkpoint={"every": "5 steps"})
    train_here(changed(job, train={"max_steps": 10}), tmp_path / "run")
    for leftover in (tmp_path / "run/checkpoints/checkpoint-10").iterdir():
        leftover.unlink()
    again = train_here(job, tmp_path / "run")
    assert [row["step"] for row in again.steps] == list(range(1, 11))
    start = read_weights(tiny_model)
    frozen = [name for name in start if "layers.0." in name]
    assert frozen
    assert all(torch.equal(again.weights[name], start[name]) for name in frozen)
