"""Compiled layers take the steps of eager ones, and save under the same names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.run_commands import changed, train_here


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.long
def test_compiled_as_eager(document: dict[str, Any], tmp_path: Path, checkpointing: bool) -> None:
    job = changed(document, train={"gradient_checkpointing": checkpointing, "max_steps": 6})
    eager = train_here(job, tmp_path / "eager")
    compiled = train_here(changed(job, train={"compile": True}), tmp_path / "compiled")
    assert compiled.losses == pytest.approx(eager.losses, abs=1e-5)
    assert compiled.weights.keys() == eager.weights.keys()
    for name, weight in compiled.weights.items():
        assert (weight - eager.weights[name]).abs().max() < 1e-4, name
