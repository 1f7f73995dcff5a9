"""Utilization is that of the formula, written out for the tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

import catalog.accelerators
from benchmarks.gpu.parts.speed import _mfu
from benchmarks.gpu.scale import Scale


@pytest.mark.parametrize("lora", [False, True])
def test_utilization(lora: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog.accelerators, "peak_flops", lambda name, precision: 1e12)
    scale = Scale("cpu", tmp_path)
    attention = 32 * 32 + 2 * 32 * 16 + 32 * 32
    layer = attention + 3 * 32 * 88 + 2 * 32
    weights = 2 * layer + 384 * 32 + 32  # an embedding look-up is no product
    # LoRA of rank 16: its own weights are trained, and the others pass the gradient on.
    adapters = 2 * 16 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 88))
    flops = 4 * weights + 6 * adapters if lora else 6 * weights
    flops += 6 * 2 * 32 * 64
    assert _mfu(scale, "1B", lora, 5e5) == pytest.approx(5e5 * flops / 1e12)


def test_device_that_the_catalog_lacks(tmp_path: Path) -> None:
    assert _mfu(Scale("cpu", tmp_path), "1B", False, 1.0) is None
