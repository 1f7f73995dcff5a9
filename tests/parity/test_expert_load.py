"""Tokens per expert are those that the model's routers chose, and a collapse is noticed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.moe_models import EXPERTS, make_tiny_moe
from tests.run_commands import changed, train_here
from training.config.runtime import ExpertCollapse
from training.errors import GuardError
from training.expert_load import ExpertCounts, add_counts, expert_metrics
from training.guards.expert_collapse import ExpertLoad
from training.methods.common.causal_lm import CausalLmTrainer
from training.report.page import render
from training.report.run_data import read_run_data
from training.step_metrics import StepMetrics


def job_for(document: dict[str, Any], model: Path, **train: Any) -> dict[str, Any]:
    job = changed(document, model={"source": str(model), "attention": "eager"})
    steps = {"max_steps": 1, "micro_batch_size": 4, "gradient_checkpointing": True}
    return changed(job, train={**steps, **train})


@pytest.mark.parametrize("family", ["mixtral", "deepseek_v3"])
def test_counts_are_what_the_routers_chose(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """DeepSeek-V3 chooses among groups, and with a bias: its logits do not tell."""
    batches = []
    original = CausalLmTrainer.compute_loss

    def recording(self: Any, model: Any, inputs: dict[str, Any], *rest: Any, **more: Any) -> Any:
        batches.append({name: value.clone() for name, value in inputs.items()})
        return original(self, model, inputs, *rest, **more)

    monkeypatch.setattr(CausalLmTrainer, "compute_loss", recording)
    start = make_tiny_moe(tmp_path / "model", family)
    run = train_here(job_for(document, start), tmp_path / "run")

    model = AutoModelForCausalLM.from_pretrained(start, attn_implementation="eager")
    pad_id = AutoTokenizer.from_pretrained(start).pad_token_id
    counts: dict[str, torch.Tensor] = {}
    chosen: dict[str, torch.Tensor] = {}
    gates = {n: m for n, m in model.named_modules() if n.endswith("mlp.gate")}
    for name, gate in gates.items():
        gate.register_forward_hook(lambda m, i, out, name=name: chosen.update({name: out[2]}))
    for batch in batches:
        with torch.no_grad():
            model(input_ids=batch["input_ids"], position_ids=batch["position_ids"])
        real = (batch["input_ids"] != pad_id).flatten()
        for name, experts in chosen.items():
            found = torch.bincount(experts[real].flatten(), minlength=EXPERTS)
            counts[name] = counts.get(name, 0) + found
    (row,) = run.steps
    assert len(batches) == 2 and len(row["experts"]) == len(gates) > 0
    for layer in row["experts"]:
        shares = counts[layer["layer"].replace("experts", "gate")] / counts[min(counts)].sum()
        assert layer["max_share"] == pytest.approx(float(shares.max()), abs=1e-5)
        assert layer["min_share"] == pytest.approx(float(shares.min()), abs=1e-5)
        entropy = -float((shares * shares.log()).sum()) / math.log(EXPERTS)
        assert layer["entropy"] == pytest.approx(entropy, abs=1e-5)
    assert row["expert_max_share"] == max(layer["max_share"] for layer in row["experts"])
    assert row["expert_entropy"] == min(layer["entropy"] for layer in row["experts"])
    assert row["dead_experts"] == sum(layer["dead"] for layer in row["experts"])


@pytest.fixture
def collapsed(tmp_path: Path) -> Path:
    """A model whose first router sends every token to the same two of four experts."""
    model = make_tiny_moe(tmp_path / "collapsed", "gpt_oss")
    weights = load_file(model / "model.safetensors")
    weights["model.layers.0.mlp.router.bias"] = torch.tensor([50.0, -50.0, 50.0, -50.0])
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    return model


COLLAPSE = {"expert_collapse": {"steps": 3, "action": "stop"}}


def test_a_collapse_stops_the_run(
    document: dict[str, Any], collapsed: Path, tmp_path: Path
) -> None:
    job = changed(job_for(document, collapsed, max_steps=6), guards=COLLAPSE)
    with pytest.raises(
        GuardError,
        match=r"step 3: after 3 steps in a row model.layers.0.mlp.experts sends 100.0% of its "
        r"tokens to 2 of 4 experts \(max_share: 95.0%\)",
    ):
        train_here(job, tmp_path / "run")


def test_a_collapse_is_named_once_and_in_the_report(
    document: dict[str, Any],
    collapsed: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = job_for(document, collapsed, max_steps=6)
    run = train_here(changed(job, guards={"expert_collapse": {"steps": 3}}), tmp_path / "run")
    assert capsys.readouterr().out.count("The router has collapsed") == 1
    assert [step["dead_experts"] for step in run.steps] == [2] * 6
    page = render(read_run_data(run.path))
    assert "A router sent 100 % of its layer" in page
    assert "model.layers.1.mlp.experts" in page and "experts without a token" in page


def test_an_even_load_is_silent(
    document: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_tiny_moe(tmp_path / "model", "gpt_oss")
    job = changed(job_for(document, model, max_steps=4), guards=COLLAPSE)
    run = train_here(job, tmp_path / "run")
    assert "collapsed" not in capsys.readouterr().out
    assert "A router sent" not in render(read_run_data(run.path))
    assert json.dumps(run.steps[-1]).count("max_share") == 3


def step(*counts: int, top_k: int = 1, number: int = 1) -> StepMetrics:
    layer = ExpertCounts("layer", top_k, counts)
    return StepMetrics(number, 0.0, 1.0, 1.0, 1e-3, 1, 1, (), 1.0, {}, (layer,))


def test_only_steps_in_a_row_count() -> None:
    guard = ExpertLoad(ExpertCollapse(action="stop", steps=3))
    for _ in range(9):
        guard.on_step(step(96, 2, 2), None)
        guard.on_step(step(96, 2, 2), None)
        guard.on_step(step(95, 3, 2), None)
    guard.on_step(step(0, 0, 0), None)
    with pytest.raises(GuardError, match=r"96\.0% of its tokens to 1 of 3"):
        for _ in range(3):
            guard.on_step(step(96, 2, 2), None)


def test_an_idle_expert_counts_if_asked_for() -> None:
    ExpertLoad(ExpertCollapse(action="stop", steps=1)).on_step(step(50, 50, 0), None)
    guard = ExpertLoad(ExpertCollapse(action="stop", steps=1, min_share=0.01))
    guard.on_step(step(50, 48, 2), None)
    with pytest.raises(GuardError, match=r"0\.00% of its tokens to one of its 3 experts"):
        guard.on_step(step(50, 50, 0), None)


def test_a_layer_without_a_choice_never_collapses() -> None:
    guard = ExpertLoad(ExpertCollapse(action="stop", steps=1))
    guard.on_step(step(50, 50, top_k=2), None)


def test_processes_and_steps_add_up() -> None:
    first, second = ExpertCounts("a", 2, (1, 3)), ExpertCounts("b", 2, (2, 2))
    added = add_counts([[first, second], [first], []])
    assert added == (ExpertCounts("a", 2, (2, 6)), second)
    assert expert_metrics(()) == {}
    assert expert_metrics(added)["expert_max_share"] == 0.75
