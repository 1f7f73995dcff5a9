"""How the benchmark of memory counts: blocks by where they lie, and tensors without numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.memory import simulate as simulated
from benchmarks.memory.allocator import AllocatedBlocks
from benchmarks.memory.cases import Case, cases
from benchmarks.memory.fixtures import write_fixtures
from benchmarks.memory.measure import measure
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


_TINY = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512}
_MIXTURES = {
    "8x7B": {**_TINY, "intermediate_size": 96, "num_hidden_layers": 3},
    "30B-A3B": {
        **_TINY, "head_dim": 16, "moe_intermediate_size": 32, "num_hidden_layers": 3,
        "num_experts": 8, "num_experts_per_tok": 3,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("what", "close"),
    [
        (Simulation("8x7B", rows=4, length=256, checkpointing=False), 0.01),
        (Simulation("30B-A3B", rows=4, length=256, checkpointing=False), 0.01),
        (Simulation("30B-A3B", rows=4, length=256), 0.01),
        (Simulation("30B-A3B", rows=4, length=256, lora=False, devices=4), 0.05),
    ],
    ids=lambda what: what.name if isinstance(what, Simulation) else "",
)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:The following")
def test_a_simulated_step_of_a_mixture_takes_what_the_plan_says(
    what: Simulation, close: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LoRA of all linear layers has matrices on the experts and on the router."""
    shape = {**simulated.SHAPES[what.model], **_MIXTURES[what.model]}
    monkeypatch.setitem(simulated.SHAPES, what.model, shape)
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows/texts.jsonl").write_text(json.dumps({"text": "a " * 600}) + "\n")
    told, found = predict_memory(what, tmp_path), simulate(what, tmp_path)
    assert told["plan"] == pytest.approx(found["peak"], rel=close)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["Mixtral, 8 rows", "Mixtral, LoRA of experts", "Qwen3-MoE, checkpointing"]
)
def test_a_trained_mixture_takes_what_the_plan_says(name: str, tmp_path: Path) -> None:
    """Peak of the allocator in a run, with the load-balancing loss."""
    write_fixtures(tmp_path, [_case(name).model])
    case = _case(name)
    told = predict_memory(case, tmp_path)
    found = measure(case, tmp_path, tmp_path / "run")
    assert told["plan"] == pytest.approx(found["peak"], rel=0.005)


def _case(name: str) -> Case:
    return next(case for case in cases() if case.name == name)
