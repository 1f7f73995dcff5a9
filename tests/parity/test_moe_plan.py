"""The plan of a mixture of experts counts what models and adapters hold, and what a token uses."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from rich.console import Console
from transformers import AutoModelForCausalLM

from planning import make_plan
from planning.hf_config import read_shape
from planning.render import render_plan
from planning.trainable_params import count_trainable
from tests.moe_models import EXPERTS, make_tiny_moe
from tests.run_commands import changed
from training.config import Job
from training.config.load import parse_job
from training.models.flops import flops_per_token

ON_EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]


@pytest.fixture(scope="module", params=["mixtral", "qwen3_moe"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_moe(tmp_path_factory.mktemp("planned") / "model", request.param)


def job_of(document: dict[str, Any], base: Path, adapter: dict[str, Any] | None) -> Job:
    job = changed(document, model={"source": str(base)})
    parsed = parse_job(job if adapter is None else {**job, "adapter": adapter}, "test")
    assert isinstance(parsed, Job)
    return parsed


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": "all-linear"},
        {"target_modules": ["q_proj", "v_proj"]},
        {"target_modules": ["o_proj"], "target_parameters": ON_EXPERTS},
        {"target_modules": ["o_proj"], "target_parameters": ON_EXPERTS[1:]},
    ],
    ids=["all-linear", "attention", "experts", "half of the experts"],
)
def test_as_many_weights_are_trained_as_peft_adds(
    document: dict[str, Any], base: Path, options: dict[str, Any]
) -> None:
    job = job_of(document, base, {"kind": "lora", "r": 4, **options})
    model = AutoModelForCausalLM.from_pretrained(base)
    tuned = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, **options))
    real = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    shape = read_shape(job)
    assert count_trainable(job, shape) == real
    plan = make_plan(job)
    assert plan.learned == real
    assert any("on a GPU the memory is an estimate" in note for note in plan.notes)


def test_parameters_in_total_and_per_token(document: dict[str, Any], base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    experts = sum(size for name, size in sizes.items() if "experts" in name)
    plan = make_plan(job_of(document, base, None))
    assert plan.parameters == sum(sizes.values())
    # Two of four experts, without the look-up of embeddings, norms and routers.
    matrices = sum(
        size
        for name, size in sizes.items()
        if not any(part in name for part in ("experts", "embed_tokens", "norm", "gate.weight"))
    )
    assert plan.active == matrices + experts * 2 // EXPERTS < plan.parameters
    assert plan.document()["active"] == plan.active
    page = io.StringIO()
    render_plan(plan, Console(file=page, width=200))
    assert "active per token)" in page.getvalue()


def test_utilization_counts_the_experts_of_a_token(base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    experts = sum(size for name, size in sizes.items() if "experts" in name)
    used = sum(sizes.values()) - sizes["model.embed_tokens.weight"] - experts * 2 // EXPERTS
    config = model.config
    attention = 6.0 * config.num_hidden_layers * config.hidden_size * 96
    assert flops_per_token(model, 96) == pytest.approx(6.0 * used + attention)
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=[], target_parameters=ON_EXPERTS)
    tuned = get_peft_model(model, lora)
    trained = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    adapted = 6.0 * trained * 2 / EXPERTS + 4.0 * used + attention
    assert flops_per_token(tuned, 96) == pytest.approx(adapted, rel=1e-6)
