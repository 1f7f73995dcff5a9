"""How the benchmark of memory counts: blocks by where they lie, and tensors without numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.memory import simulate as simulated
from benchmarks.memory.allocator import AllocatedBlocks
from benchmarks.memory.predict import predict_memory
from benchmarks.memory.simulate import Simulation, simulate


def test_a_block_that_another_thread_freed_is_found_out() -> None:
    blocks = AllocatedBlocks()
    blocks.add(0x1000, 0x1000)
    blocks.add(0x3000, 0x1000)
    assert blocks.live == 0x2000
    blocks.add(0x1800, 0x1000)  # lies over the first, whose end was never heard of
    assert blocks.live == 0x2000
    assert blocks.contains(0x1900) and not blocks.contains(0x1000)
    blocks.free(0x1000)  # nothing lies there
    assert blocks.live == 0x2000
    blocks.discard_unmapped([range(0x3000, 0x8000)])  # the pages of the other are gone
    assert blocks.live == 0x1000
    blocks.free(0x3000)
    assert blocks.live == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "close"),
    [
        (Simulation("1B", lora=False, checkpointing=False, precision="fp32", length=512), 0.01),
        (Simulation("1B", length=1024), 0.02),
        (Simulation("1B", lora=False, length=1024, devices=8), 0.1),
    ],
    ids=["full", "LoRA", "8 devices"],
)
def test_a_simulated_step_takes_what_the_plan_says(
    what: Simulation, close: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = {**simulated.SHAPES["1B"], "num_hidden_layers": 3}
    monkeypatch.setitem(simulated.SHAPES, "1B", shape)
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows/texts.jsonl").write_text(json.dumps({"text": "a " * 600}) + "\n")
    told, found = predict_memory(what, tmp_path), simulate(what, tmp_path)
    assert told["plan"] == pytest.approx(found["peak"], rel=close)
    assert told["plan"] > 0.97 * found["peak"]
